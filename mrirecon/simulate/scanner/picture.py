"""What a slice shows before coils and noise: water, fat, and where the object is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mrirecon.simulate.head.contrast import Contrast
from mrirecon.simulate.head.shapes import paint


class Picture(NamedTuple):
    """Signals `(height, width)`, float32; white matter has 1."""

    water: np.ndarray
    fat: np.ndarray
    cover: np.ndarray  # share of the point that lies in the object, 0 to 1

    @classmethod
    def blank(cls, shape: tuple[int, ...]) -> "Picture":
        """Nothing there."""
        return cls(*(np.zeros(shape, dtype=np.float32) for _ in cls._fields))

    @classmethod
    def mean(cls, pictures: Sequence["Picture"]) -> "Picture":
        """Of several sections through one slice."""
        return cls(*(np.asarray(np.mean(parts, axis=0, dtype=np.float32)) for parts in zip(*pictures, strict=True)))

    def take(self, chosen: np.ndarray) -> "Picture":
        """The parts at the flat positions where `chosen` (n,) is true."""
        return Picture(*(part.reshape(-1)[chosen] for part in self))

    def put(self, chosen: np.ndarray, values: "Picture") -> None:
        """Write `values` back to those positions, in place."""
        for part, value in zip(self, values, strict=True):
            part.reshape(-1)[chosen] = value

    def paint(self, cover: np.ndarray, contrast: Contrast, tissue: str, factor: float | np.ndarray = 1.0) -> None:
        """Put a tissue over what is there, in place."""
        paint(self.water, cover, np.float32(contrast.water[tissue]) * factor)
        paint(self.fat, cover, np.float32(contrast.fat[tissue]))

    def clear(self, cover: np.ndarray) -> None:
        """Put air over what is there, in place."""
        for part in self:
            paint(part, cover, np.float32(0))
