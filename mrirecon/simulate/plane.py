"""Where a slice lies in the patient: x to the right, y to the front, z to the top, in mm (the RAS+ axes of NIfTI)."""

from dataclasses import dataclass, replace

import numpy as np

Vector = tuple[float, float, float]
ORIENTATIONS: dict[str, tuple[Vector, Vector, Vector]] = {
    # directions of the slice normal, of increasing row and of increasing column, as radiologists look at them
    "axial": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
    "sagittal": ((1, 0, 0), (0, 0, -1), (0, -1, 0)),
}


@dataclass(frozen=True)
class Plane:
    """A regular grid of points on a slice, positions in mm."""

    center: np.ndarray  # (3,) mm: the point at row and column 0
    row: np.ndarray  # (3,) unit vector along increasing row
    column: np.ndarray  # (3,) unit vector along increasing column
    row_mm: np.ndarray  # (height,) positions along `row`
    column_mm: np.ndarray  # (width,) positions along `column`

    @classmethod
    def centered(
        cls, center: np.ndarray, row: np.ndarray, column: np.ndarray, spacing_mm: float, shape: tuple[int, int]
    ) -> "Plane":
        """Return a grid whose element `(height // 2, width // 2)` is `center`, as the centred transform expects.

        There numpy's `fftshift` puts the origin.

        Args:
            center: `(3,)` mm.
            row: `(3,)` unit vector along increasing row.
            column: `(3,)` unit vector along increasing column.
            spacing_mm: Distance of neighbouring points.
            shape: Height and width.
        """
        height, width = shape
        return cls(
            center,
            row,
            column,
            (np.arange(height) - height // 2) * spacing_mm,
            (np.arange(width) - width // 2) * spacing_mm,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """The grid's `(height, width)`."""
        return len(self.row_mm), len(self.column_mm)

    @property
    def spacing_mm(self) -> float:
        """Distance of neighbouring points, mm."""
        return float(self.row_mm[1] - self.row_mm[0])

    @property
    def normal(self) -> np.ndarray:
        """Unit vector `(3,)` across the slice."""
        return np.cross(self.row, self.column)

    def points(self) -> np.ndarray:
        """Return the positions `(3, height, width)` of all points in mm, float32."""
        start = self.center[:, None] + self.row[:, None] * self.row_mm
        return (start[:, :, None] + (self.column[:, None] * self.column_mm)[:, None, :]).astype(np.float32)

    def shifted(self, distance_mm: float) -> "Plane":
        """Return the same grid, moved along the normal."""
        return replace(self, center=self.center + distance_mm * self.normal)

    def part(self, rows: slice, columns: slice) -> "Plane":
        """Return the grid of some rows and columns only."""
        return replace(self, row_mm=self.row_mm[rows], column_mm=self.column_mm[columns])

    def window(self, low: np.ndarray, high: np.ndarray, margin_mm: float = 4.0) -> tuple[slice, slice]:
        """Return the rows and columns that can lie in the box from `low` to `high`, `(3,)` mm, at least two of each."""
        corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        offset = corners - self.center
        return (
            _covering(self.row_mm, offset @ self.row, margin_mm),
            _covering(self.column_mm, offset @ self.column, margin_mm),
        )


def rotated(
    orientation: str, in_plane_rad: float = 0.0, tilt_rad: tuple[float, float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column directions of an orientation, turned in the plane and tilted about both directions.

    Args:
        orientation: A name of `ORIENTATIONS`.
        in_plane_rad: Turn about the slice normal.
        tilt_rad: Turns about the row and then the column direction, by Rodrigues' formula (1840); as by
            `scipy.spatial.transform.Rotation.from_rotvec`.

    Returns:
        Two orthogonal unit vectors `(3,)`.
    """
    _, row, column = (np.array(v, dtype=float) for v in ORIENTATIONS[orientation])
    turned_row = np.cos(in_plane_rad) * row + np.sin(in_plane_rad) * column
    turned_column = np.cos(in_plane_rad) * column - np.sin(in_plane_rad) * row
    for axis, angle in ((row, tilt_rad[0]), (column, tilt_rad[1])):
        turned_row, turned_column = (_turn(v, axis, angle) for v in (turned_row, turned_column))
    return turned_row, turned_column


def _turn(vector: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """Turn a vector `(3,)` about the unit vector `axis` `(3,)`: Rodrigues' rotation formula."""
    along = axis * (axis @ vector)
    return along + np.cos(angle) * (vector - along) + np.sin(angle) * np.cross(axis, vector)


def _covering(positions: np.ndarray, wanted: np.ndarray, margin: float) -> slice:
    inside = np.flatnonzero((positions >= wanted.min() - margin) & (positions <= wanted.max() + margin))
    if len(inside) < 2:
        return slice(0, 2)
    return slice(int(inside[0]), int(inside[-1]) + 1)
