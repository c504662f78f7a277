"""Find the measured positions of a file's k-space: scanners and masks leave exact zeros elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

FULL = 0.95  # of the positions; of nine measured files, one has zeros among its samples: one position of 65,536


@dataclass(frozen=True)
class Sampling:
    """The measured positions `(row, column)` of a file; one that is exactly 0 in all coils and slices is not measured.

    Rows are the readout, columns the phase encoding.
    """

    columns: np.ndarray  # bool (width,): where a column holds a sample
    n_rows: int  # rows that hold a sample
    n_positions: int  # positions that hold a sample
    n_center: int  # columns of the fully measured central block, which has as large a share of the rows
    uneven_slice: int = (
        -1
    )  # the first slice with samples that lacks a part of the others'; `n_positions` is then a mean

    @classmethod
    def of(cls, measured: np.ndarray) -> "Sampling":
        """Describe measured positions, bool `(height, width)`."""
        columns, rows = np.any(measured, axis=0), np.any(measured, axis=1)
        return cls(columns, int(rows.sum()), int(measured.sum()), _central_block(measured))

    @classmethod
    def of_slices(cls, slices: Mapping[int, np.ndarray]) -> "Sampling":
        """Describe the measured positions, bool `(height, width)`, of slices by number; empty slices do not count."""
        there = {i: measured for i, measured in sorted(slices.items()) if measured.any()}
        if not there:
            return cls.of(next(iter(slices.values())))
        together = cls.of(np.any(list(there.values()), axis=0))
        few = [i for i, measured in there.items() if measured.sum() < FULL * together.n_positions]
        if not few:
            return together
        mean = round(sum(int(measured.sum()) for measured in there.values()) / len(there))
        common = np.all(list(there.values()), axis=0)
        in_all = _central_block(common) if common.any() else 0
        return replace(together, n_positions=mean, n_center=in_all, uneven_slice=few[0])

    @property
    def is_empty(self) -> bool:
        """There is no sample at all."""
        return self.n_positions == 0

    @property
    def is_2d(self) -> bool:
        """No mask of columns says it all: measured rows and columns are not measured everywhere, or in all slices."""
        return self.uneven_slice >= 0 or self.n_positions < FULL * self.n_rows * int(self.columns.sum())

    @property
    def measured_run(self) -> slice:
        """From the first to the last measured column; zero padding lies outside."""
        (measured,) = np.nonzero(self.columns)
        return slice(int(measured[0]), int(measured[-1]) + 1) if len(measured) else slice(0, 0)

    @property
    def has_gaps(self) -> bool:
        """Positions between measured ones are empty: this k-space is undersampled."""
        return self.is_2d or not self.columns[self.measured_run].all()

    def acceleration(self, acquired: slice) -> float:
        """Positions of the acquired columns over those that hold a sample; rows without any do not count."""
        n_acquired = self.n_rows * len(self.columns[acquired])
        return n_acquired / self.n_positions if self.n_positions else float("inf")

    def to_plain(self) -> dict[str, Any]:
        """All of it as values that JSON can hold."""
        return {**vars(self), "columns": self.columns.tolist()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Sampling":
        """The same again, of what `to_plain` gave."""
        return cls(**{**plain, "columns": np.array(plain["columns"], dtype=bool)})


def measured_positions(kspace: np.ndarray) -> np.ndarray:
    """Return where k-space `(coils, height, width)` is not exactly 0 in every coil, bool `(height, width)`.

    BART's `pattern` finds them so.
    """
    measured: np.ndarray = (kspace != 0).any(axis=0)
    return measured


def _central_block(measured: np.ndarray) -> int:
    """Return the columns of the largest block around the centre without a gap, of `measured`, bool `(height, width)`.

    Rows without any sample do not count.
    """
    height, width = measured.shape
    solid = measured | ~np.any(measured, axis=1, keepdims=True)

    def is_full(n: int) -> bool:
        rows = max(1, round(n * height / width))
        top, left = height // 2 - rows // 2, width // 2 - n // 2
        return bool(solid[top : top + rows, left : left + n].all())

    return next((n for n in range(width, 0, -1) if is_full(n)), 0)
