"""Choose the mask of a volume: the file's own, fastMRI's for its name in evaluation, a drawn one in training.

A file has a mask of its own where it holds the data set `mask`, or where k-space has gaps (`Volume.own_mask`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

import torch

from mrirecon.config import DataConfig
from mrirecon.data.hdf5.description import acceleration_of
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, unknown_name
from mrirecon.physics import Mask, default_center_fraction, make_mask
from mrirecon.physics.masks import center_run, true_acceleration
from mrirecon.tables.entry import named
from mrirecon.tables.masks import MASKS

# fastmri: seeded by the file's name; algoperf: one mask for each width, centre columns rounded down
MASK_RULES = ("fastmri", "algoperf")
_FASTMRI_BRAINS = {"AXFLAIR", "AXT1", "AXT1PRE", "AXT1POST", "AXT2"}


def mask_names() -> tuple[str, ...]:
    """Return the names that `--mask` takes."""
    return ("auto", "file", *MASKS)


@dataclass(frozen=True)
class MaskSpec:
    """A kind of mask with index-paired accelerations and center fractions.

    `own` says what happens to files that have a mask of their own: `used`, theirs is; `required`, and every file needs
    one; `refused`, masks are drawn, which needs k-space without gaps.
    """

    name: str
    accelerations: tuple[float, ...]
    center_fractions: tuple[float, ...]
    rule: str = "fastmri"
    own: str = "refused"

    @classmethod
    def of(
        cls,
        name: str,
        acceleration: float | Sequence[float] = 4,
        center_fraction: float | Sequence[float] | None = None,
        rule: str = "fastmri",
        own: str = "refused",
    ) -> "MaskSpec":
        """Make one of numbers or lists; without center fractions they are 0.32 / R (fastMRI's 0.08 at 4x).

        Raises:
            InputError: Unknown name, or lists of different lengths.
        """
        if rule not in MASK_RULES:
            raise unknown_name("mask rule", rule, MASK_RULES)
        named(MASKS, name, "mask")
        accelerations = _as_tuple(acceleration)
        fractions = _as_tuple(center_fraction) if center_fraction is not None else ()
        fractions = fractions or tuple(default_center_fraction(value) for value in accelerations)
        if not accelerations or len(fractions) != len(accelerations):
            raise InputError(
                f"{len(fractions)} center fractions for {len(accelerations)} accelerations; "
                "give one for each (--acceleration 4 8 --center-fraction 0.08 0.04)"
            )
        return cls(name, accelerations, fractions, rule, own)

    def only(self, i: int) -> "MaskSpec":
        """The same with pair `i` alone."""
        return replace(
            self, accelerations=self.accelerations[i : i + 1], center_fractions=self.center_fractions[i : i + 1]
        )


def mask_spec(config: DataConfig, volumes: Iterable[Volume], rule: str = "fastmri") -> MaskSpec:
    """The masks that a configuration asks for; see `named_masks`."""
    return named_masks(config.mask, volumes, config.acceleration, config.center_fraction or None, rule)


def named_masks(
    name: str,
    volumes: Iterable[Volume],
    acceleration: float | Sequence[float] = 4,
    center_fraction: float | Sequence[float] | None = None,
    rule: str = "fastmri",
) -> MaskSpec:
    """The masks that go by one of `mask_names()`.

    `auto` uses a file's own mask where there is one and draws the others by the anatomy of `volumes`; `file` needs
    every file to have its own; any other name is drawn for all.

    Raises:
        InputError: Unknown name, or lists of different lengths.
    """
    own = {"auto": "used", "file": "required"}.get(name, "refused")
    drawn = resolve_mask_name("auto" if name == "file" else name, volumes)
    return MaskSpec.of(drawn, acceleration, center_fraction, rule, own)


def scored_passes(spec: MaskSpec, volumes: Sequence[Volume]) -> list[tuple[MaskSpec, list[Volume]]]:
    """Each acceleration with the volumes that are scored at it; files with masks of their own only at the first."""
    drawn = [volume for volume in volumes if not uses_own(volume, spec)]
    passes = [(spec.only(i), drawn if i else list(volumes)) for i in range(len(spec.accelerations))]
    return [(one, scored) for one, scored in passes if scored]


def masks_used(spec: MaskSpec, volumes: Sequence[Volume]) -> dict[str, Any]:
    """Describe the masks of volumes, as values that JSON can hold.

    `name`, `accelerations` and `center_fractions` are of the drawn masks (`file` and empty where there are none); `own`
    counts the volumes with masks of their own, with their lowest and highest true acceleration.
    """
    own = [_own_mask(volume).acceleration_true for volume in volumes if uses_own(volume, spec)]
    used: dict[str, Any] = {**asdict(spec), "own": None}
    if own:
        used["own"] = {"volumes": len(own), "of": len(volumes), "acceleration_true": [min(own), max(own)]}
    if own and len(own) == len(volumes):
        used |= {"name": "file", "accelerations": (), "center_fractions": ()}
    return used


def evaluation_mask(volume: Volume, spec: MaskSpec, draw: int = 0) -> Mask:
    """The mask that a volume is scored with, the same for all of its slices.

    Draw 0 is fastMRI's: seeded with the code points of the file's name. Draw k adds k to that seed. Under the rule
    algoperf all volumes share the seed 0. A file's own mask is used where `spec` says so.

    Raises:
        InputError: A mask shall be drawn for k-space that has gaps, or there is none to use, or it does not fit.
    """
    codes = (0,) if spec.rule == "algoperf" else tuple(map(ord, volume.mask_seed_name))
    return _mask(volume, spec, codes if draw == 0 else (*codes, draw))


def training_mask(volume: Volume, spec: MaskSpec, seed: int | Sequence[int]) -> Mask:
    """A mask drawn from `seed` with one (acceleration, center fraction) pair; own masks and errors as in evaluation.

    The pair is chosen by chance, as fastMRI's mask functions choose it.
    """
    return _mask(volume, spec, seed)


def check_masks(volumes: Iterable[Volume], spec: MaskSpec) -> None:
    """Find out before work whether every volume can be undersampled as `spec` says.

    Whether a drawn mask fits depends on the width alone, so one of each width is drawn: drawing is slow.

    Raises:
        InputError: As `evaluation_mask`, of the first volume that does not fit.
    """
    fitting = set[int]()
    for volume in volumes:
        if uses_own(volume, spec):
            _own_mask(volume)
        elif volume.shape[-1] not in fitting:
            for i in range(len(spec.accelerations)):
                evaluation_mask(volume, spec.only(i))
            fitting.add(volume.shape[-1])


def stored_mask(volume: Volume) -> Mask:
    """The file's own mask; without one all columns, so that its k-space stays as it is."""
    if volume.own_mask is not None:
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
        raise unknown_name("mask", name, mask_names())
    acquisitions = {volume.acquisition.upper() for volume in volumes}
    return "equispaced_fraction" if acquisitions and acquisitions <= _FASTMRI_BRAINS else "random"


def mask_id(mask: Mask) -> str:
    """12 hex digits of the SHA-256 of the columns as bytes 0 and 1: equal ids, equal masks."""
    return sha256(mask.columns.to(torch.uint8).numpy().tobytes()).hexdigest()[:12]


def sampled_center(volume: Volume, mask: Mask) -> int:
    """Central columns of which everything is there under `mask`, of k-space that may be undersampled on both axes."""
    return volume.sampling.n_center if volume.sampling.is_2d else center_run(mask.columns)


def uses_own(volume: Volume, spec: MaskSpec) -> bool:
    """Return whether a volume is undersampled with a mask of its own.

    Raises:
        InputError: A mask shall be drawn for k-space that has gaps, or its own be used and there is none.
    """
    if spec.own == "required" and volume.own_mask is None:
        raise InputError(
            f"{volume.name}: --mask file, but it has neither a data set 'mask' nor gaps in its k-space; "
            f"use --mask auto, or draw one (--mask {', '.join(MASKS)})"
        )
    if spec.own != "refused":
        return volume.own_mask is not None
    if not volume.is_full:
        true = _own_mask(volume).acceleration_true
        raise InputError(
            f"{volume.name}: its k-space is undersampled already ({_gaps(volume)}, true acceleration {true:.2f}), so "
            f"no mask '{spec.name}' can be drawn for it; use --mask file (or auto), or give fully sampled files"
        )
    return False


def _gaps(volume: Volume) -> str:
    sampling = volume.sampling
    if sampling.uneven_slice >= 0:
        return f"its slices differ, slice {sampling.uneven_slice} has fewer samples than others"
    if sampling.is_2d:
        return f"{sampling.n_positions} of {volume.shape[-2] * volume.shape[-1]} positions hold samples"
    return f"{int((~sampling.columns).sum())} of {volume.shape[-1]} columns are empty"


def _mask(volume: Volume, spec: MaskSpec, seed: int | Sequence[int]) -> Mask:
    if uses_own(volume, spec):
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
    """The file's mask; nominal values are its attributes, else what the samples show.

    Of k-space that is undersampled on both axes all columns are kept that hold any sample; the true acceleration counts
    positions.
    """
    columns, sampling = torch.as_tensor(volume.own_mask), volume.sampling
    if sampling.is_2d:
        n_center, true = sampling.n_center, sampling.acceleration(volume.acquired)
    else:
        n_center, true = center_run(columns), true_acceleration(columns, volume.acquired)
    nominal = acceleration_of(volume.attrs, otherwise=true)
    return Mask(columns, n_center, true, nominal, n_center / len(columns))


def _as_tuple(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)
