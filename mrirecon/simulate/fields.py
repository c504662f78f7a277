"""Random smooth fields in space: sums of plane waves, and a periodic grid for points that follow no plane."""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from mrirecon.simulate.plane import Plane

_ONE_THREAD_WORK = 1 << 18  # multiply-adds up to which OpenBLAS takes one thread


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return `left` (m, k) times `right` (k, n), in blocks of rows.

    Volumes already run side by side. With its own threads on top OpenBLAS takes 50 times longer on a
    busy machine, and its sums would depend on the number of threads.
    """
    m, k = left.shape
    rows = max(1, _ONE_THREAD_WORK // (k * right.shape[1]))
    blocks = -(-m // rows)
    padded = np.zeros((blocks * rows, k), dtype=left.dtype)
    padded[:m] = left
    return (padded.reshape(blocks, rows, k) @ right).reshape(blocks * rows, -1)[:m]


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves with random phases, defined everywhere: a random field of mean 0 and variance 1.

    It tends to a Gaussian field with the number of waves (spectral representation; Shinozuka and Deodatis 1996,
    Appl Mech Rev 49:29).
    """

    wave_vectors: np.ndarray  # (waves, 3), rad / mm
    phases: np.ndarray  # (waves,)

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        wavelengths_mm: tuple[float, float],
        n_waves: int = 32,
        stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> "Waves":
        """Draw waves of uniform direction, log-uniform wavelength and uniform phase (Shinozuka and Deodatis 1996).

        Args:
            rng: Draws directions, wavelengths and phases.
            wavelengths_mm: Shortest and longest.
            n_waves: Number of waves.
            stretch: Factors that lengthen the structure along x, y, z.
        """
        direction = rng.standard_normal((n_waves, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        wavelength = np.exp(rng.uniform(np.log(wavelengths_mm[0]), np.log(wavelengths_mm[1]), n_waves))
        vectors = 2 * np.pi * direction / wavelength[:, None] / np.array(stretch)
        return cls(vectors, rng.uniform(0, 2 * np.pi, n_waves))

    def on(self, plane: Plane) -> np.ndarray:
        """Return the values `(height, width)` on a plane, float32: sqrt(2 / n) times the sum of cos(k x + phase).

        That is the formula of Shinozuka and Deodatis (1996). A plane wave is separable on any plane, so this is one
        matrix product.
        """
        start = self.wave_vectors @ plane.center + self.phases
        along_rows = (np.outer(plane.row_mm, self.wave_vectors @ plane.row) + start).astype(np.float32)
        along_columns = np.outer(self.wave_vectors @ plane.column, plane.column_mm).astype(np.float32)
        left = np.hstack([np.cos(along_rows), -np.sin(along_rows)])
        right = np.vstack([np.cos(along_columns), np.sin(along_columns)])
        return product(left * np.float32(np.sqrt(2 / len(self.phases))), right)


@dataclass(frozen=True)
class PeriodicField:
    """A band-limited Gaussian random field on a periodic grid, read by trilinear interpolation."""

    values: np.ndarray  # (n, n, n), mean 0, variance 1
    spacing_mm: float

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        wavelength_mm: float,
        bandwidth: float = 0.25,
        n: int = 96,
        spacing_mm: float = 2.0,
    ) -> "PeriodicField":
        """Filter white noise with a Gaussian ring in frequency.

        The method of Lang and Potthoff (2011, Monte Carlo Methods Appl 17:195).

        Args:
            rng: Draws the noise.
            wavelength_mm: Centre of the ring, as a wavelength.
            bandwidth: Its relative standard deviation.
            n: Grid points along each axis.
            spacing_mm: Distance of grid points; the field repeats after `n * spacing_mm`.
        """
        frequency = np.sqrt(
            fft.fftfreq(n)[:, None, None] ** 2 + fft.fftfreq(n)[None, :, None] ** 2 + fft.rfftfreq(n) ** 2
        )
        relative = frequency * wavelength_mm / spacing_mm - 1
        noise = fft.rfftn(rng.standard_normal((n, n, n), dtype=np.float32))
        values = fft.irfftn(noise * np.exp(-0.5 * (relative / bandwidth) ** 2).astype(np.float32), s=(n, n, n))
        return cls(values / values.std(), spacing_mm)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the values `(...)` at `points` `(3, ...)` in mm, by scipy's `map_coordinates` of order 1, periodic."""
        return ndimage.map_coordinates(self.values, points / self.spacing_mm, order=1, mode="grid-wrap")
