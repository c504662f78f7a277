"""A real head as the object: cut into disjoint slabs, resized, turned and recoloured, never moved across its axis."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from mrirecon.errors import InputError
from mrirecon.simulate.fields import Waves
from mrirecon.simulate.head.nifti import MagnitudeSource
from mrirecon.simulate.head.painting import Picture
from mrirecon.simulate.plane import Plane

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
GUARD_MM = 8.0
_LEAST_SHARE = 0.15  # of the object, for a split with few volumes


def cut_slabs(
    source: MagnitudeSource, orientation: str, counts: dict[str, int], n_slices: int
) -> dict[str, MagnitudeSource]:
    """Cut disjoint slabs across the slices, one per split with volumes, with a guard gap between them.

    Args:
        source: The whole volume.
        orientation: Of the slices; slabs are cut along their normal.
        counts: Volumes per split; a slab's thickness follows its count. The first split lies highest (to the
            top, the front or the right), so that training sees the brain rather than the face.
        n_slices: Slices per volume, which must fit into the thinnest slab.

    Raises:
        InputError: The object is too short for that.
    """
    axis = AXES[orientation]
    area = source.cover.sum(axis=tuple(i for i in range(3) if i != axis))
    used = np.flatnonzero(area > 0.25 * area.max())
    low, high = int(used[0]), int(used[-1]) + 1
    wanted = [split for split, count in counts.items() if count]
    gap = int(np.ceil(GUARD_MM / source.voxel_mm[axis]))
    room = max(high - low - gap * (len(wanted) - 1), 0)
    shares = np.array([counts[split] for split in wanted])
    shares = np.maximum(shares / shares.sum(), _LEAST_SHARE)
    sizes = np.floor(room * shares / shares.sum()).astype(int)
    if sizes.min() < max(4, n_slices):
        raise InputError(
            f"{n_slices} slices for each of {len(wanted)} splits do not fit into the {high - low} planes of the object "
            f"with gaps of {gap}; use fewer slices, fewer splits or another axis"
        )
    slabs = {}
    for split, size in zip(wanted, sizes, strict=True):
        slabs[split] = _slab(source, axis, high - int(size), high)
        high -= int(size) + gap
    return slabs


def _slab(source: MagnitudeSource, axis: int, first: int, end: int) -> MagnitudeSource:
    """A copy of the planes from `first` to before `end`: nothing outside can be read any more."""
    cut = tuple(slice(first, end) if i == axis else slice(None) for i in range(3))
    start = source.start_mm.copy()
    start[axis] += first * source.voxel_mm[axis]
    values, cover = source.values[cut].copy(), source.cover[cut].copy()
    return replace(source, values=values, cover=cover, start_mm=start, axis=axis)


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
        """Name of the person, the same for everything made from one head."""
        return self.source.patient_id

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Two corners `(3,)` in mm of the part that a field of view should hold."""
        corners = self.source.start_mm + self.source.object_voxels * self.source.voxel_mm
        corners = np.sort(corners * self.size * self.flip, axis=0)
        return corners[0], corners[1]

    @property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Two corners `(3,)` in mm of a box outside which there is nothing."""
        low, high = self.box
        return low - 5, high + 5

    def render(self, plane: Plane, thickness_mm: float) -> Picture:
        """Return the mean over the slice thickness at the points of `plane`; slices never read beyond their slab.

        Between voxels values are linear (scipy's `map_coordinates` of order 1).
        """
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
    """Draw intensities and what they become, two arrays `(10,)`.

    Black stays black; half the heads keep the order of their tissues, the others get new intensities.
    """
    knots = np.array([0, 0.12, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.6, 3.0])
    if rng.random() < 0.5:
        return knots, knots ** rng.uniform(0.7, 1.6)
    inner = rng.uniform(0.1, 1.6, len(knots) - 1)
    smooth = ndimage.gaussian_filter1d(inner, 0.6)
    return knots, np.concatenate([[0], smooth])
