"""Column masks by name, drawn by fastMRI's own mask functions.

Width is the phase-encoding axis; a mask keeps whole columns and is the same along the readout.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrirecon.errors import InputError, unknown_name

_CLASSES = {
    "random": "RandomMaskFunc",
    "equispaced": "EquiSpacedMaskFunc",
    "equispaced_fraction": "EquispacedMaskFractionFunc",
    "magic": "MagicMaskFunc",
    "magic_fraction": "MagicMaskFractionFunc",
}
MASKS = tuple(_CLASSES)
_WHOLE = ("equispaced", "magic")


class Mask(NamedTuple):
    """A drawn mask and what it really is."""

    columns: Tensor  # bool (width,), true where k-space is kept
    n_center: int  # fully sampled central columns
    acceleration_true: float  # acquired columns over kept acquired columns
    acceleration: float  # the nominal acceleration that was drawn
    center_fraction: float


def default_center_fraction(acceleration: float) -> float:
    """fastMRI's convention (0.08 at 4x, 0.04 at 8x), continued as 0.32 / R.

    Raises:
        InputError: An acceleration below 1.
    """
    if not acceleration >= 1:
        raise InputError(f"acceleration {acceleration:g}; it must be at least 1 (usual: 4 or 8)")
    return 0.32 / acceleration


def make_mask(
    name: str,
    width: int,
    center_fraction: float | Sequence[float],
    acceleration: float | Sequence[float],
    seed: int | Sequence[int],
    *,
    acquired: slice | None = None,
) -> Mask:
    """Draw the mask `name` for `width` columns; lists of fractions and accelerations are index-paired.

    Equals the fastMRI mask function of that name under the same seed, and leaves the global
    random state alone.

    Args:
        name: One of `MASKS`.
        width: Number of k-space columns, zero-padded ones included.
        center_fraction: Share of the columns that is fully sampled in the centre.
        acceleration: Nominal acceleration, at least 1.
        seed: Any seed of `numpy.random.RandomState`; fastMRI uses the code points of the file name.
        acquired: The columns that were measured; the true acceleration counts over them only.

    Raises:
        InputError: Unknown name, lists of different lengths, or a centre of no column or of too many.
    """
    fractions, accelerations = _paired(center_fraction, acceleration)
    for pair in zip(fractions, accelerations, strict=True):
        _check_pair(width, *pair)
    seed = tuple(seed) if isinstance(seed, Sequence) else int(seed)
    function = _mask_function(name, fractions, accelerations)
    try:
        kept, n_center = function((1, width, 2), None, seed)
    except (ValueError, ZeroDivisionError) as error:  # magic_fraction on a few columns
        raise InputError(f"mask {name} does not fit {width} columns at {accelerations}x ({error})") from error
    columns = kept.flatten() > 0
    choice = _drawn_pair(len(fractions), seed)
    return Mask(columns, n_center, true_acceleration(columns, acquired), accelerations[choice], fractions[choice])


def true_acceleration(columns: Tensor, acquired: slice | None = None) -> float:
    """Acquired columns over kept acquired columns."""
    inside = columns[acquired or slice(None)]
    n_kept = int(torch.count_nonzero(inside))
    return len(inside) / n_kept if n_kept else float("inf")


def center_run(columns: Tensor) -> int:
    """Length of the run of kept columns around the centre column of a mask `(width,)`."""
    kept = columns.tolist()
    center = len(kept) // 2
    left = right = center
    while left > 0 and kept[left - 1]:
        left -= 1
    while right < len(kept) and kept[right]:
        right += 1
    return right - left


def _paired(fraction: Any, acceleration: Any) -> tuple[list[float], list[float]]:
    fractions = list(fraction) if isinstance(fraction, Sequence) else [fraction]
    accelerations = list(acceleration) if isinstance(acceleration, Sequence) else [acceleration]
    if len(fractions) != len(accelerations) or not fractions:
        raise InputError(
            f"{len(fractions)} center fractions for {len(accelerations)} accelerations; "
            "give one center fraction for each acceleration (--acceleration 4 8 --center-fraction 0.08 0.04)"
        )
    return fractions, accelerations


def _check_pair(width: int, center_fraction: float, acceleration: float) -> None:
    if not (acceleration >= 1 and 0 < center_fraction <= 1):
        raise InputError(
            f"acceleration {acceleration} with center fraction {center_fraction}: "
            "the acceleration must be at least 1 and the center fraction between 0 and 1"
        )
    n_center = round(width * center_fraction)
    if n_center == 0:
        raise InputError(
            f"center fraction {center_fraction} of {width} columns is less than one column; "
            f"use at least {1 / width:.3g}"
        )
    if n_center * acceleration >= width or center_fraction * acceleration >= 1:
        raise InputError(
            f"center fraction {center_fraction} x acceleration {acceleration} leaves nothing to undersample: "
            f"the {n_center} centre columns of {width} alone are all the columns allowed; "
            f"use a center fraction below {1 / acceleration:.3g} (usual: {0.32 / acceleration:.3g})"
        )


def _mask_function(name: str, fractions: list[float], accelerations: list[float]) -> Callable[..., Any]:
    if name not in _CLASSES:
        raise unknown_name("mask", name, MASKS)
    if name in _WHOLE and not all(float(a).is_integer() for a in accelerations):
        raise InputError(f"mask {name} takes every R-th column: {accelerations} must be whole numbers")
    whole = [int(a) if float(a).is_integer() else a for a in accelerations]
    return getattr(_subsample(), _CLASSES[name])(fractions, whole)


@cache
def _subsample() -> ModuleType:
    """The module `fastmri.data.subsample` by itself: its package imports pandas and requests, which masks do not need.

    It takes numpy and torch alone; under its full name, its package would come with it if it ever asked for more.
    """
    name, package = "fastmri.data.subsample", find_spec("fastmri")
    folders = (package.submodule_search_locations if package else None) or []
    spec = PathFinder.find_spec(name, [f"{folder}/data" for folder in folders])
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"there is no {name}; pip install 'fastmri>=0.3.0'", name=name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _drawn_pair(n_pairs: int, seed: int | tuple[int, ...]) -> int:
    """fastMRI's first draw under a seed is the index of the (center fraction, acceleration) pair."""
    return int(np.random.RandomState(seed).randint(n_pairs))  # the reference's generator
