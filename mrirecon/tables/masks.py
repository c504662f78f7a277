"""Undersampling masks by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MaskEntry:
    """A kind of mask.

    `build` is the function (shape, center_fraction, acceleration, generator) -> boolean array of `shape`, true where
    k-space is kept; the generator is a `numpy.random.RandomState` and the only source of randomness. `shape` is
    (width,) where the mask keeps whole columns, and (height, width) where `n_dims` is 2.
    """

    help: str
    build: str | Callable[..., Any]
    n_dims: int = 1
    whole_acceleration: bool = False  # takes every R-th column, so R is a whole number


MASKS: dict[str, MaskEntry] = {
    "random": MaskEntry("columns by chance (fastMRI)", "mrirecon.physics.masks:random"),
    "equispaced": MaskEntry(
        "every R-th column (fastMRI)", "mrirecon.physics.masks:equispaced", whole_acceleration=True
    ),
    "equispaced_fraction": MaskEntry(
        "evenly, R with the centre (fastMRI)", "mrirecon.physics.masks:equispaced_fraction"
    ),
    "magic": MaskEntry(
        "every R-th, offset by symmetry (fastMRI)", "mrirecon.physics.masks:magic", whole_acceleration=True
    ),
    "magic_fraction": MaskEntry("magic, R with the centre (fastMRI)", "mrirecon.physics.masks:magic_fraction"),
    "gaussian": MaskEntry("columns by chance, denser towards the centre", "mrirecon.physics.masks:gaussian"),
}
