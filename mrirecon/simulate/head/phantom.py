"""A random head: bodies painted one over the other, evaluated at the points of any slice."""

from dataclasses import dataclass

import numpy as np

from mrirecon.simulate.fields import Waves
from mrirecon.simulate.head.anatomy import Anatomy, random_anatomy
from mrirecon.simulate.head.contrast import Contrast, random_contrast
from mrirecon.simulate.head.interior import paint_brain
from mrirecon.simulate.head.outside import head_hull, paint_outside
from mrirecon.simulate.head.painting import Cut, Picture, ellipsoid, smooth_min
from mrirecon.simulate.plane import Plane

_SUB_PLANES = 3  # over the slice thickness


@dataclass(frozen=True)
class Phantom:
    """One head with one contrast. Positions are in mm, x right, y front, z up."""

    anatomy: Anatomy
    contrast: Contrast
    size: np.ndarray  # (3,) scale of the head along x, y, z
    textures: tuple[tuple[Waves, float], ...]

    @classmethod
    def random(cls, rng: np.random.Generator, texture: bool = True, contrast: str = "") -> "Phantom":
        """Draw anatomy, size, contrast and texture."""
        anatomy = random_anatomy(rng)
        size = rng.uniform(0.92, 1.06) * rng.uniform(0.97, 1.03, 3)
        bands = (((2.5, 6.0), 0.022), ((6.0, 16.0), 0.015), ((16.0, 60.0), 0.03))
        waves = tuple((Waves.random(rng, band, 64), sd * rng.uniform(0.3, 1.3)) for band, sd in bands)
        return cls(anatomy, random_contrast(rng, contrast), size, waves if texture else ())

    @property
    def contrast_name(self) -> str:
        """T1, T2, PD, FLAIR or GRE."""
        return self.contrast.name

    @property
    def fat_phase(self) -> float:
        """Phase of fat against water at the echo, rad."""
        return self.contrast.fat_phase

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Two corners `(3,)` in mm of the part that a field of view should hold; a neck may stick out below."""
        a = self.anatomy
        outer = a.skull_mm + a.scalp_mm + 2
        high = a.cerebrum_center + a.cerebrum_radii + outer
        low = a.cerebrum_center - a.cerebrum_radii - outer
        front = 12 if a.face else 0
        return np.array([low[0], low[1], -88.0]) * self.size, (high + np.array([0, front, 0])) * self.size

    @property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Two corners `(3,)` in mm of a box outside which there is nothing."""
        low, high = self.box
        return low - np.array([14, 25, 95]), high + np.array([14, 14, 6])

    def slice_range_mm(self, orientation: str) -> tuple[float, float]:
        """Return the lowest and the highest position in mm of the centre of a slice that shows mostly brain."""
        ranges = {"axial": (-36.0, 64.0), "coronal": (-88.0, 52.0), "sagittal": (-50.0, 50.0)}
        axis = {"axial": 2, "coronal": 1, "sagittal": 0}[orientation]
        low, high = ranges[orientation]
        return low * self.size[axis], high * self.size[axis]

    def render(self, plane: Plane, thickness_mm: float) -> Picture:
        """Return the mean over the slice thickness, at the points of `plane`."""
        steps = (np.arange(_SUB_PLANES) + 0.5) / _SUB_PLANES - 0.5
        edge = max(1.2 * plane.spacing_mm, 0.5 * thickness_mm / _SUB_PLANES)
        picture = Picture.mean([self._cut(plane.shifted(step * thickness_mm), edge) for step in steps])
        return picture._replace(water=picture.water * self._texture(plane))

    def _cut(self, plane: Plane, edge_mm: float) -> Picture:
        cut = Cut.of(plane, self.size, edge_mm)
        distance = cavity(self.anatomy, cut)
        head = head_hull(self.anatomy, cut, distance)
        picture = Picture.blank(plane.shape)
        around = (distance > -2 * edge_mm) & (head < 2 * edge_mm)
        brain = distance < edge_mm
        picture.put(
            around, paint_outside(self.anatomy, self.contrast, cut.where(around), head[around], distance[around])
        )
        inner = picture.take(brain)
        inner.cover[...] = 1
        paint_brain(inner, self.anatomy, self.contrast, cut.where(brain), distance[brain])
        picture.put(brain, inner)
        in_range = np.clip((cut.points[2] + 172) / 45, 0, 1).reshape(plane.shape)  # the magnet's homogeneous part
        return Picture(picture.water * in_range, picture.fat * in_range, picture.cover)

    def _texture(self, plane: Plane) -> np.ndarray:
        texture = np.ones(plane.shape, dtype=np.float32)
        for waves, sd in self.textures:
            texture += np.float32(sd) * waves.on(plane)
        return np.maximum(texture, 0)


def cavity(anatomy: Anatomy, cut: Cut) -> np.ndarray:
    """Return the distance `(n,)` in mm to the inner face of the skull, negative inside."""
    offset = cut.points - anatomy.cerebrum_center.astype(np.float32)[:, None]
    offset[0] *= 1 + np.float32(anatomy.narrow_front) * offset[1] / np.float32(anatomy.cerebrum_radii[1])
    below = np.float32(anatomy.cerebrum_radii[2] / anatomy.below_radius)
    offset[2] = np.where(offset[2] < 0, offset[2] * below, offset[2])
    cerebrum = ellipsoid(offset, (0, 0, 0), anatomy.cerebrum_radii)
    fossa = ellipsoid(cut.points, anatomy.fossa_center, anatomy.fossa_radii)
    return smooth_min(cerebrum, fossa, 20.0) + np.float32(anatomy.hull_mm) * cut.field(anatomy.hull_wave)
