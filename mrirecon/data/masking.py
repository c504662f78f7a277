"""Which mask a volume gets: the file's own, fastMRI's for its name in evaluation, a drawn one in training."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch

from mrirecon.config import DataConfig
from mrirecon.data.attributes import acceleration_of
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, unknown_name
from mrirecon.physics import MASKS, Mask, default_center_fraction, make_mask
from mrirecon.physics.masks import center_run, true_acceleration

# fastmri: seeded by the file's name; algoperf: one mask for each width, centre columns rounded down
MASK_RULES = ("fastmri", "algoperf")
_FASTMRI_BRAINS = {"AXFLAIR", "AXT1", "AXT1PRE", "AXT1POST", "AXT2"}


@dataclass(frozen=True)
class MaskSpec:
    """A kind of mask with index-paired accelerations and center fractions."""

    name: str
    accelerations: tuple[float, ...]
    center_fractions: tuple[float, ...]
    rule: str = "fastmri"

    @classmethod
    def of(
        cls,
        name: str,
        acceleration: float | Sequence[float] = 4,
        center_fraction: float | Sequence[float] | None = None,
        rule: str = "fastmri",
    ) -> "MaskSpec":
        """Make one of numbers or lists; without center fractions they are 0.32 / R (0.08 at 4x).

        Raises:
            InputError: Unknown name, or lists of different lengths.
        """
        if rule not in MASK_RULES:
            raise unknown_name("mask rule", rule, MASK_RULES)
        if name not in MASKS:
            raise unknown_name("mask", name, MASKS)
        accelerations = _as_tuple(acceleration)
        fractions = _as_tuple(center_fraction) if center_fraction is not None else ()
        fractions = fractions or tuple(default_center_fraction(value) for value in accelerations)
        if not accelerations or len(fractions) != len(accelerations):
            raise InputError(
                f"{len(fractions)} center fractions for {len(accelerations)} accelerations; "
                "give one for each (--acceleration 4 8 --center-fraction 0.08 0.04)"
            )
        return cls(name, accelerations, fractions, rule)

    def only(self, i: int) -> "MaskSpec":
        """The same with pair `i` alone."""
        return MaskSpec(self.name, self.accelerations[i : i + 1], self.center_fractions[i : i + 1], self.rule)


def mask_spec(config: DataConfig, volumes: Iterable[Volume], rule: str = "fastmri") -> MaskSpec:
    """The masks that a configuration asks for; `auto` is resolved by the anatomy of `volumes`."""
    name = resolve_mask_name(config.mask, volumes)
    return MaskSpec.of(name, config.acceleration, config.center_fraction or None, rule)


def evaluation_mask(volume: Volume, spec: MaskSpec, draw: int = 0) -> Mask:
    """The mask that a volume is scored with, the same for all of its slices.

    Draw 0 is fastMRI's: seeded with the code points of the file's name. Draw k adds k to that seed. Under the rule
    algoperf all volumes share the seed 0. A file's own mask wins.
    """
    codes = (0,) if spec.rule == "algoperf" else tuple(map(ord, volume.mask_seed_name))
    return _mask(volume, spec, codes if draw == 0 else (*codes, draw))


def training_mask(volume: Volume, spec: MaskSpec, seed: int | Sequence[int]) -> Mask:
    """A mask drawn from `seed` with one (acceleration, center fraction) pair; a file's own mask wins."""
    return _mask(volume, spec, seed)


def stored_mask(volume: Volume) -> Mask:
    """The file's own mask; without one all columns, so that its k-space stays as it is."""
    if volume.file_mask is not None:
        return _own_mask(volume)
    width = volume.shape[-1]
    return Mask(torch.ones(width, dtype=torch.bool), width, 1.0, 1.0, 1.0)


def resolve_mask_name(name: str, volumes: Iterable[Volume]) -> str:
    """`auto` by anatomy: equispaced_fraction where all volumes are fastMRI brains, else random (knees too).

    Raises:
        InputError: Unknown name.
    """
    if name in MASKS:
        return name
    if name != "auto":
        raise unknown_name("mask", name, ("auto", *MASKS))
    acquisitions = {volume.acquisition.upper() for volume in volumes}
    return "equispaced_fraction" if acquisitions and acquisitions <= _FASTMRI_BRAINS else "random"


def mask_id(mask: Mask) -> str:
    """12 hex digits of the SHA-256 of the columns as bytes 0 and 1: equal ids, equal masks."""
    return sha256(mask.columns.to(torch.uint8).numpy().tobytes()).hexdigest()[:12]


def _mask(volume: Volume, spec: MaskSpec, seed: int | Sequence[int]) -> Mask:
    if volume.file_mask is not None:
        return _own_mask(volume)
    width, fractions = volume.shape[-1], spec.center_fractions
    if spec.rule == "algoperf":
        fractions = tuple(_rounded_down(fraction, width) for fraction in fractions)
    return make_mask(spec.name, width, fractions, spec.accelerations, seed, acquired=volume.acquired)


def _rounded_down(fraction: float, width: int) -> float:
    if math.floor(fraction * width) < 1:
        raise InputError(
            f"center fraction {fraction:g} of {width} columns, rounded down, is no column; use at least {1 / width:.3g}"
        )
    return math.floor(fraction * width) / width


def _own_mask(volume: Volume) -> Mask:
    """The file's mask; nominal values are its attributes, else what the columns show."""
    columns = torch.as_tensor(volume.file_mask)
    n_center = center_run(columns)
    true = true_acceleration(columns, volume.acquired)
    nominal = acceleration_of(volume.attrs, otherwise=true)
    return Mask(columns, n_center, true, nominal, n_center / len(columns))


def _as_tuple(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)
