"""A real magnitude volume as the object: loaded, cut into slabs, then turned and recoloured."""

from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
from scipy import ndimage

from mrirecon.errors import InputError
from mrirecon.simulate.fields import Waves
from mrirecon.simulate.picture import Picture
from mrirecon.simulate.plane import Plane

_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
_GUARD_MM = 8.0
_SUB_PLANES = 3


@dataclass(frozen=True)
class MagnitudeSource:
    """Part of a volume: values relative to its bright tissue, and where they lie."""

    values: np.ndarray  # (x, y, z) float32, 0 outside the object
    cover: np.ndarray  # (x, y, z) float32, 1 in the object
    voxel_mm: np.ndarray  # (3,)
    start_mm: np.ndarray  # (3,) position of the first voxel
    patient_id: str
    axis: int | None = None  # the slab axis, once cut

    @property
    def end_mm(self) -> np.ndarray:
        """Position of the last voxel, `(3,)`."""
        return self.start_mm + self.voxel_mm * (np.array(self.values.shape) - 1)

    @property
    def slice_range_mm(self) -> tuple[float, float]:
        """Where slice centres may lie along the slab axis; half a slice stays inside the slab."""
        axis = self.axis or 0
        return float(self.start_mm[axis]), float(self.end_mm[axis])

    def spacing_mm(self, n_slices: int) -> tuple[float, float]:
        """Smallest and largest slice distance that keeps `n_slices` in the slab."""
        low, high = self.slice_range_mm
        room = (high - low) / n_slices
        return min(1.5, room), min(6.0, room)


def load_magnitude(path: str) -> MagnitudeSource:
    """Read a NIfTI volume; of a 4-D file the first frame.

    Raises:
        InputError: Not there, not NIfTI, not a volume, or empty.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    if not Path(path).is_file():
        raise InputError(f"{path} is not a file; --from takes a NIfTI volume (.nii or .nii.gz), or phantom")
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        values = np.asarray(image.dataobj)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read as NIfTI ({error}); --from takes .nii or .nii.gz files") from error
    values = _first_frame(values, path)
    voxel = np.array(image.header.get_zooms()[:3], dtype=float)
    center = (np.array(values.shape) - 1) / 2
    values, cover = _object_only(values, path)
    name = Path(path).name.removesuffix(".gz").removesuffix(".nii")
    return MagnitudeSource(values, cover, voxel, -center * voxel, f"{name}-{crc32(values.tobytes()):08x}")


def cut_slabs(
    source: MagnitudeSource, orientation: str, counts: dict[str, int], n_slices: int
) -> dict[str, MagnitudeSource]:
    """Cut disjoint slabs across the slices, one per split with volumes, with a guard gap between them.

    Args:
        source: The whole volume.
        orientation: Of the slices; slabs are cut along their normal.
        counts: Volumes per split; a slab's thickness follows its count.
        n_slices: Slices per volume, which must fit into the thinnest slab.

    Raises:
        InputError: The object is too short for that.
    """
    axis = _AXES[orientation]
    area = source.cover.sum(axis=tuple(i for i in range(3) if i != axis))
    used = np.flatnonzero(area > 0.25 * area.max())
    low, high = int(used[0]), int(used[-1]) + 1
    wanted = {split: count for split, count in counts.items() if count}
    gap = int(np.ceil(_GUARD_MM / source.voxel_mm[axis]))
    room = high - low - gap * (len(wanted) - 1)
    weights = np.sqrt(np.array(list(wanted.values()), dtype=float))
    sizes = np.floor(room * weights / weights.sum()).astype(int)
    if sizes.min() < max(4, n_slices):
        raise InputError(
            f"{n_slices} slices for each of {len(wanted)} splits do not fit into the {high - low} planes of the object "
            f"with gaps of {gap}; use fewer slices, fewer splits or another axis"
        )
    slabs = {}
    for split, size in zip(wanted, sizes):
        slabs[split] = _slab(source, axis, low, low + int(size))
        low += int(size) + gap
    return slabs


def _slab(source: MagnitudeSource, axis: int, first: int, end: int) -> MagnitudeSource:
    cut = tuple(slice(first, end) if i == axis else slice(None) for i in range(3))
    start = source.start_mm.copy()
    start[axis] += first * source.voxel_mm[axis]
    return replace(source, values=source.values[cut].copy(), cover=source.cover[cut].copy(), start_mm=start, axis=axis)


def _first_frame(values: np.ndarray, path: str) -> np.ndarray:
    while values.ndim > 3:
        values = values[..., 0]
    if values.ndim != 3 or min(values.shape) < 8:
        raise InputError(f"{path} has shape {values.shape}; --from needs a volume of at least 8 voxels on each axis")
    if np.iscomplexobj(values) or not np.isfinite(values).all():
        raise InputError(f"{path} holds {values.dtype} values, some perhaps NaN; --from needs a finite magnitude volume")
    return values.astype(np.float32)


def _object_only(values: np.ndarray, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Values without the background's noise, relative to bright tissue; and the object's filled shape."""
    values = np.maximum(values, 0)
    bright = float(np.percentile(values, 98))
    if bright <= 0:
        raise InputError(f"{path} has no positive values; --from needs a magnitude volume")
    threshold = 0.08 * bright
    shape = ndimage.binary_opening(values > threshold, iterations=2)
    labels, count = ndimage.label(shape)
    if not count:
        raise InputError(f"{path} shows no object above its background; --from needs a magnitude volume")
    largest = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    filled = _fill(ndimage.binary_dilation(largest, iterations=2))
    return np.where(filled, values / bright, 0).astype(np.float32), filled.astype(np.float32)


def _fill(mask: np.ndarray) -> np.ndarray:
    """Fill holes in every axial plane: air inside a head is part of it, the outside is not."""
    return np.stack([ndimage.binary_fill_holes(mask[..., i]) for i in range(mask.shape[-1])], axis=-1)


@dataclass(frozen=True)
class MagnitudeHead:
    """A slab with its own contrast, size and texture."""

    source: MagnitudeSource
    curve: tuple[np.ndarray, np.ndarray]  # intensities and what they become
    size: np.ndarray  # (3,), 1 along the slab axis
    flip: np.ndarray  # (3,) of 1 and -1
    textures: tuple[tuple[Waves, float], ...]
    fat_phase: float = 0.0

    @classmethod
    def random(
        cls, rng: np.random.Generator, source: MagnitudeSource, orientation: str, texture: bool = True
    ) -> "MagnitudeHead":
        """Draw contrast, in-plane size and texture; nothing moves across the slab axis."""
        axis = _AXES[orientation]
        size = rng.uniform(0.88, 1.08) * rng.uniform(0.95, 1.05, 3)
        size[axis] = 1.0
        flip = np.ones(3)
        if axis != 0:
            flip[0] = rng.choice([-1, 1])
        waves = ((Waves.random(rng, (3, 9), 64), rng.uniform(0.0, 0.02)), (Waves.random(rng, (16, 60), 32), rng.uniform(0, 0.04)))
        return cls(source, _random_curve(rng), size, flip, waves if texture else ())

    @property
    def patient_id(self) -> str:
        """The same for everything made from one head."""
        return self.source.patient_id

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners of what a field of view should hold."""
        filled = np.argwhere(self.source.cover > 0.5)
        corners = self.source.start_mm + np.stack([filled.min(0), filled.max(0)]) * self.source.voxel_mm
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
        parts = [self._cut(plane.shifted(step)) for step in steps]
        value, cover = (sum(part) / np.float32(_SUB_PLANES) for part in zip(*parts))
        for waves, sd in self.textures:
            value = value * np.maximum(1 + np.float32(sd) * waves.on(plane), 0)
        return Picture(value.astype(np.float32), np.zeros_like(value, dtype=np.float32), cover)

    def _cut(self, plane: Plane) -> tuple[np.ndarray, np.ndarray]:
        scale = (self.size * self.flip).reshape(3, 1, 1)
        index = (plane.points() / scale - self.source.start_mm.reshape(3, 1, 1)) / self.source.voxel_mm.reshape(3, 1, 1)
        axis = self.source.axis or 0
        index[axis] = index[axis].clip(0, self.source.values.shape[axis] - 1)
        # Splines of order 3 would overshoot at the skin and look beyond the slab.
        value = ndimage.map_coordinates(self.source.values, index, order=1, mode="constant")
        cover = ndimage.map_coordinates(self.source.cover, index, order=1, mode="constant")
        return np.interp(value, *self.curve).astype(np.float32), cover


def _random_curve(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Black stays black; half the heads keep the order of their tissues, the others get new intensities."""
    knots = np.array([0, 0.12, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.6, 3.0])
    if rng.random() < 0.5:
        return knots, knots ** rng.uniform(0.7, 1.6)
    inner = rng.uniform(0.1, 1.6, len(knots) - 1)
    smooth = ndimage.gaussian_filter1d(inner, 0.6)
    return knots, np.concatenate([[0], smooth])
