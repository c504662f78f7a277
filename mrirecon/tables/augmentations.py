"""Augmentations of training slices by name; the order is the one in which they are done.

The names are the keys of `AugmentConfig`, whose values say how much; 0 is off.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mrirecon.errors import InputError


@dataclass(frozen=True)
class AugmentationEntry:
    """A change of the coil images of a slice, drawn anew each time.

    `build` is (amount, generator) -> what is done, or None for nothing this time. Of `kind` `resamples` it is a 2 x 2
    matrix that takes a displacement (rows, columns) from the centre to where the value for it is fetched; of `changes`
    (values) and `moves` (whole pixels) it is a function of complex images `(..., height, width)`. What moves pixels can
    be done to a stored reference, too, where that is `whole` (as large as the grid), `centred` (leaves as much of the
    grid on either side) or `square` (and centred).
    """

    help: str
    build: str | Callable[..., Any]
    kind: str
    reference: str = ""
    below: float = math.inf  # bound of its key, which is not reached
    at_most: float = math.inf


AUGMENTATIONS: dict[str, AugmentationEntry] = {
    "scale": AugmentationEntry("larger or smaller", "mrirecon.data.augment:scale", "resamples", below=1),
    "rotate": AugmentationEntry("turned by any angle", "mrirecon.data.augment:rotate", "resamples", at_most=180),
    "contrast": AugmentationEntry("a power of the magnitude", "mrirecon.data.augment:contrast", "changes", below=1),
    "flip": AugmentationEntry("mirrored", "mrirecon.data.augment:flip", "moves", "centred", at_most=1),
    "rotate90": AugmentationEntry("quarter turns", "mrirecon.data.augment:rotate90", "moves", "square", at_most=1),
    "shift": AugmentationEntry("displaced by whole pixels", "mrirecon.data.augment:shift", "moves", "whole"),
}


def amounts(config: Any) -> dict[str, float]:
    """The augmentations that an `AugmentConfig` turns on, with its values."""
    values = {name: getattr(config, name) for name in AUGMENTATIONS}
    return {name: value for name, value in values.items() if value}


def check_amounts(given: Mapping[str, float]) -> None:
    """Raise an InputError for an amount that is negative, no number, or too much."""
    for name, value in given.items():
        entry = AUGMENTATIONS[name]
        if not (0 <= value <= entry.at_most and value < entry.below):
            bound = f"below {entry.below:g}" if entry.below < math.inf else f"at most {entry.at_most:g}"
            raise InputError(f"augment.{name} is {value:g}; it must be at least 0 (off) and {bound}")
