"""A slab of a real head as the object: resized, turned and recoloured, never moved across its axis."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mrirecon.simulate.head.fields import Waves
from mrirecon.simulate.head.nifti import MagnitudeSource
from mrirecon.simulate.scanner.picture import Picture
from mrirecon.simulate.scanner.plane import Plane

_SUB_PLANES = 3  # over the slice thickness


@dataclass(frozen=True)
class MagnitudeHead:
    """A slab with its own contrast, size and texture."""

    source: MagnitudeSource
    curve: tuple[np.ndarray, np.ndarray]  # intensities and what they become
    size: np.ndarray  # (3,), 1 along the slab axis
    flip: np.ndarray  # (3,) of 1 and -1
    textures: tuple[tuple[Waves, float], ...]
    fat_phase: float = 0.0
    contrast_name: str = "MAG"

    @classmethod
    def random(cls, rng: np.random.Generator, source: MagnitudeSource, texture: bool = True) -> "MagnitudeHead":
        """Draw contrast, in-plane size and texture; nothing moves across the slab axis."""
        axis = source.axis
        size = rng.uniform(0.88, 1.08) * rng.uniform(0.95, 1.05, 3)
        size[axis] = 1.0
        flip = np.ones(3)
        if axis != 0:
            flip[0] = rng.choice([-1, 1])
        fine, coarse = Waves.random(rng, (3, 9), 64), Waves.random(rng, (16, 60), 32)
        waves = ((fine, rng.uniform(0, 0.02)), (coarse, rng.uniform(0, 0.04)))
        return cls(source, _random_curve(rng), size, flip, waves if texture else ())

    @property
    def patient_id(self) -> str:
        """The same for everything made from one head."""
        return self.source.patient_id

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners of what a field of view should hold."""
        corners = self.source.start_mm + self.source.object_voxels * self.source.voxel_mm
        corners = np.sort(corners * self.size * self.flip, axis=0)
        return corners[0], corners[1]

    @property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners of a box outside which there is nothing."""
        low, high = self.box
        return low - 5, high + 5

    def render(self, plane: Plane, thickness_mm: float) -> Picture:
        """The mean over the slice thickness; slices never read beyond their slab."""
        steps = ((np.arange(_SUB_PLANES) + 0.5) / _SUB_PLANES - 0.5) * thickness_mm
        picture = Picture.mean([self._cut(plane.shifted(step)) for step in steps])
        for waves, sd in self.textures:
            picture.water[...] *= np.maximum(1 + np.float32(sd) * waves.on(plane), 0)
        return picture

    def _cut(self, plane: Plane) -> Picture:
        scale = (self.size * self.flip).reshape(3, 1, 1)
        start, voxel = (values.reshape(3, 1, 1) for values in (self.source.start_mm, self.source.voxel_mm))
        index = (plane.points() / scale - start) / voxel
        axis = self.source.axis
        index[axis] = index[axis].clip(0, self.source.values.shape[axis] - 1)
        # Splines of order 3 would overshoot at the skin and look beyond the slab.
        value = ndimage.map_coordinates(self.source.values, index, order=1, mode="constant")
        cover = ndimage.map_coordinates(self.source.cover, index, order=1, mode="constant")
        recoloured = np.interp(value, *self.curve).astype(np.float32)
        return Picture(recoloured, np.zeros_like(recoloured), cover)


def _random_curve(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Black stays black; half the heads keep the order of their tissues, the others get new intensities."""
    knots = np.array([0, 0.12, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.6, 3.0])
    if rng.random() < 0.5:
        return knots, knots ** rng.uniform(0.7, 1.6)
    inner = rng.uniform(0.1, 1.6, len(knots) - 1)
    smooth = ndimage.gaussian_filter1d(inner, 0.6)
    return knots, np.concatenate([[0], smooth])
