"""Undersampling masks by name; those of fastMRI (Zbontar et al., arXiv:1811.08839) by its own functions.

Width is the phase-encoding axis; a mask of one dimension keeps whole columns and is the same along the readout.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.tables.entry import builder, named
from mrirecon.tables.masks import MASKS

Generator = np.random.RandomState  # the reference's generator


class Mask(NamedTuple):
    """A drawn mask and what it really is."""

    columns: Tensor  # bool (width,), true where k-space is kept
    n_center: int  # fully sampled central columns
    acceleration_true: float  # acquired columns over kept acquired columns
    acceleration: float  # the nominal acceleration that was drawn
    center_fraction: float


def default_center_fraction(acceleration: float) -> float:
    """Return the center fraction of fastMRI (0.08 at 4x, 0.04 at 8x), continued as 0.32 / R.

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
    entry = named(MASKS, name, "mask")
    if entry.n_dims != 1:
        known = ", ".join(other for other, entry in MASKS.items() if entry.n_dims == 1)
        raise InputError(f"mask {name} is two-dimensional; k-space is undersampled by whole columns here, use {known}")
    if entry.whole_acceleration and not all(float(a).is_integer() for a in accelerations):
        raise InputError(f"mask {name} takes every R-th column: {accelerations} must be whole numbers")
    generator = np.random.RandomState(tuple(seed) if isinstance(seed, Sequence) else int(seed))
    choice = int(generator.randint(len(fractions)))  # fastMRI's first draw under a seed
    fraction, acceleration = fractions[choice], accelerations[choice]
    columns = _draw(name, (width,), fraction, acceleration, generator)
    return Mask(columns, round(width * fraction), true_acceleration(columns, acquired), acceleration, fraction)


def draw_mask(
    name: str, shape: tuple[int, ...], center_fraction: float, acceleration: float, seed: int | Sequence[int]
) -> Tensor:
    """Draw a mask of one or two dimensions, bool `shape`: (width,) or (height, width), as the kind of mask has it.

    Those of fastMRI are drawn by its own functions from numpy's `RandomState(seed)`.

    Raises:
        InputError: Unknown name, a shape that the mask does not have, or a centre as in `make_mask`.
    """
    n_dims = named(MASKS, name, "mask").n_dims
    if len(shape) != n_dims:
        raise InputError(f"mask {name} has {n_dims} dimension{'s' if n_dims > 1 else ''}, got the shape {shape}")
    _check_values(center_fraction, acceleration)
    if n_dims == 1:
        _check_pair(shape[0], center_fraction, acceleration)
    generator = np.random.RandomState(tuple(seed) if isinstance(seed, Sequence) else int(seed))
    return _draw(name, shape, center_fraction, acceleration, generator)


def _draw(name: str, shape: tuple[int, ...], fraction: float, acceleration: float, generator: Generator) -> Tensor:
    try:
        kept = builder(MASKS[name].build)(shape, fraction, acceleration, generator)
    except (ValueError, ZeroDivisionError) as error:  # magic_fraction on a few columns
        size = f"{shape[-1]} columns" if len(shape) == 1 else f"the shape {shape}"
        raise InputError(f"mask {name} does not fit {size} at {acceleration:g}x ({error})") from error
    if np.shape(kept) != shape or np.asarray(kept).dtype != bool:
        raise InputError(f"mask {name} gave {np.asarray(kept).dtype} {np.shape(kept)}; bool {shape} was asked for")
    return torch.from_numpy(np.ascontiguousarray(kept))


def true_acceleration(columns: Tensor, acquired: slice | None = None) -> float:
    """Divide the number of acquired columns by that of the kept ones among them, of a mask (width,)."""
    inside = columns[acquired or slice(None)]
    n_kept = int(torch.count_nonzero(inside))
    return len(inside) / n_kept if n_kept else float("inf")


def center_run(columns: Tensor) -> int:
    """Count the kept columns around the centre column of a mask `(width,)` up to the first gaps.

    fastMRI's `SensitivityModel` takes its low frequencies from this run, too, but twice its shorter side.
    """
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


def _check_values(center_fraction: float, acceleration: float) -> None:
    if not (acceleration >= 1 and 0 < center_fraction <= 1):
        raise InputError(
            f"acceleration {acceleration} with center fraction {center_fraction}: "
            "the acceleration must be at least 1 and the center fraction between 0 and 1"
        )


def _check_pair(width: int, center_fraction: float, acceleration: float) -> None:
    _check_values(center_fraction, acceleration)
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


def _of_fastmri(class_name: str) -> Callable[..., NDArray[np.bool_]]:
    """Make the mask function of a class of fastMRI, which draws as that does from a generator in the same state."""

    def draw(
        shape: tuple[int, ...], center_fraction: float, acceleration: float, generator: Generator
    ) -> NDArray[np.bool_]:
        """Draw columns, bool (width,), for `shape` (width,), with the class of fastMRI."""
        whole = int(acceleration) if float(acceleration).is_integer() else acceleration
        function = getattr(_subsample(), class_name)([center_fraction], [whole])
        function.rng = generator
        kept, _ = function((1, *shape, 2))
        columns: NDArray[np.bool_] = kept.flatten().numpy() > 0
        return columns

    return draw


random = _of_fastmri("RandomMaskFunc")
equispaced = _of_fastmri("EquiSpacedMaskFunc")
equispaced_fraction = _of_fastmri("EquispacedMaskFractionFunc")
# sampled off the grid's symmetry (Defazio, Offset sampling, arXiv:1912.01101)
magic = _of_fastmri("MagicMaskFunc")
magic_fraction = _of_fastmri("MagicMaskFractionFunc")


def gaussian(
    shape: tuple[int, ...], center_fraction: float, acceleration: float, generator: Generator
) -> NDArray[np.bool_]:
    """Draw `round(width / acceleration)` columns (width,), denser towards the centre (Lustig et al., MRM 2007).

    The columns beside the full centre are drawn without replacement, with probabilities after a Gaussian
    around the centre of k-space whose standard deviation is a sixth of the width.
    """
    (width,) = shape
    n_center = round(width * center_fraction)
    start = (width - n_center + 1) // 2
    kept = np.zeros(width, bool)
    kept[start : start + n_center] = True
    density = np.where(kept, 0.0, np.exp(-0.5 * ((np.arange(width) - width // 2) / (width / 6)) ** 2))
    n_more = round(width / acceleration) - n_center
    kept[generator.choice(width, n_more, replace=False, p=density / density.sum())] = True
    return kept


@cache
def _subsample() -> ModuleType:
    """Load `fastmri.data.subsample` by itself: its package imports pandas and requests, which masks do not need.

    It imports numpy and torch alone. It has its full name, so that an import of its own package would work too.
    """
    name, package = "fastmri.data.subsample", find_spec("fastmri")
    folders = (package.submodule_search_locations if package else None) or []
    spec = PathFinder.find_spec(name, [f"{folder}/data" for folder in folders])
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"there is no {name}; pip install 'fastmri>=0.3.0'", name=name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
