"""The slices of one volume: field of view, position, orientation, thickness, matrix."""

from dataclasses import dataclass

import numpy as np

from mrirecon.data.header import Header
from mrirecon.simulate.plane import ORIENTATIONS, Plane, rotated

_FINEST_MM = 1.15  # large pixels are divided until the object is rasterised at least this finely


@dataclass(frozen=True)
class Stack:
    """Parallel slices on one fine grid."""

    planes: tuple[Plane, ...]  # grids over the whole encoded field of view, `finer` times the reconstruction's
    shape: tuple[int, int]  # of the images
    kspace_shape: tuple[int, int]
    finer: int
    pixel_mm: float
    thickness_mm: float
    spacing_mm: float

    def header(self, n_coils: int, field_strength_T: float) -> Header:
        """Return the ISMRMRD header (Inati et al. 2017) of fully sampled k-space."""
        (height, width), (encoded_height, encoded_width) = self.shape, self.kspace_shape
        return Header(
            encoded_matrix=(encoded_height, encoded_width, 1),
            recon_matrix=(height, width, 1),
            encoded_fov_mm=(encoded_height * self.pixel_mm, encoded_width * self.pixel_mm, self.thickness_mm),
            recon_fov_mm=(height * self.pixel_mm, width * self.pixel_mm, self.thickness_mm),
            encoding_limits=(0, encoded_width // 2, encoded_width - 1),
            n_coils=n_coils,
            field_strength_T=field_strength_T,
        )


@dataclass(frozen=True)
class Geometry:
    """The wanted orientation, matrix and number of slices; the rest of a stack is drawn."""

    orientation: str
    matrix: tuple[int, int]
    oversampling: float
    n_slices: int
    tilt_rad: float  # largest tilt out of the plane

    def random_stack(
        self,
        rng: np.random.Generator,
        box: tuple[np.ndarray, np.ndarray],
        slice_range_mm: tuple[float, float],
        spacing_mm: tuple[float, float],
    ) -> Stack:
        """Draw slices whose centres lie in `slice_range_mm` and whose field of view holds `box`.

        Args:
            rng: Draws turn, tilt, field of view, distances and thickness.
            box: Two corners `(3,)` in mm.
            slice_range_mm: Lowest and highest centre, along the slice normal.
            spacing_mm: Smallest and largest distance of slices.
        """
        normal = np.array(ORIENTATIONS[self.orientation][0], dtype=float)
        quarters = [0, 0, 0, 1, 2, 3] if self.orientation == "axial" else [0, 0, 2]  # a neck stays along the readout
        turn = rng.normal(0, np.deg2rad(6)) + rng.choice(quarters) * np.pi / 2
        tilt = rng.uniform(-self.tilt_rad, self.tilt_rad, 2)
        row, column = rotated(self.orientation, float(turn), (float(tilt[0]), float(tilt[1])))
        pixel, center = self._field_of_view(rng, box, row, column)
        spacing, positions = self._positions(rng, slice_range_mm, spacing_mm)
        finer = max(2, int(np.ceil(pixel / _FINEST_MM)))
        shape = self.encoded_matrix
        fine = (shape[0] * finer, shape[1] * finer)
        return Stack(
            planes=tuple(
                Plane.centered(center + (position - center @ normal) * normal, row, column, pixel / finer, fine)
                for position in positions
            ),
            shape=self.matrix,
            kspace_shape=shape,
            finer=finer,
            pixel_mm=pixel,
            thickness_mm=float(spacing * rng.uniform(0.6, 1.0)),
            spacing_mm=spacing,
        )

    @property
    def encoded_matrix(self) -> tuple[int, int]:
        """Height and width of k-space; the oversampled height has the parity of the image's, so both share a centre."""
        height, width = self.matrix
        extra = round(height * (self.oversampling - 1) / 2)
        return height + 2 * extra, width

    def _field_of_view(
        self, rng: np.random.Generator, box: tuple[np.ndarray, np.ndarray], row: np.ndarray, column: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the pixel size in mm and the centre `(3,)` in mm of a field of view with room around the object."""
        low, high = box
        need = np.array([np.abs(axis) @ (high - low) for axis in (row, column)])
        least = float((need / self.matrix).max())
        pixel = least * rng.uniform(0.97, 1.3)
        room = (np.array(self.matrix) * pixel - need).clip(min=0) * rng.uniform(-0.35, 0.35, 2)
        return pixel, (low + high) / 2 + room[0] * row + room[1] * column

    def _positions(
        self, rng: np.random.Generator, slice_range_mm: tuple[float, float], spacing_mm: tuple[float, float]
    ) -> tuple[float, np.ndarray]:
        low, high = slice_range_mm
        room = (high - low) / max(self.n_slices, 1)
        spacing = min(float(rng.uniform(*spacing_mm)), room)
        start = low + rng.uniform(0, 1) * (high - low - spacing * (self.n_slices - 1))
        return spacing, start + spacing * np.arange(self.n_slices)
