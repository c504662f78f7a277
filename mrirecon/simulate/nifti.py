"""A real magnitude volume: read from NIfTI, freed of its background."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from scipy import ndimage

from mrirecon.data.limits import n_bytes, require_room
from mrirecon.errors import InputError


@dataclass(frozen=True)
class MagnitudeSource:
    """Part of a volume: values relative to its bright tissue, and where they lie."""

    values: np.ndarray  # (x, y, z) float32, 0 outside the object
    cover: np.ndarray  # (x, y, z) float32, 1 in the object
    voxel_mm: np.ndarray  # (3,)
    start_mm: np.ndarray  # (3,) position of the first voxel
    patient_id: str
    n_frames: int = 1  # of the file; the first one is used
    axis: int = 2  # across which slabs are cut

    @property
    def end_mm(self) -> np.ndarray:
        """Position of the last voxel, `(3,)`."""
        return self.start_mm + self.voxel_mm * (np.array(self.values.shape) - 1)

    @property
    def object_mm(self) -> np.ndarray:
        """Size of the object along x, y, z."""
        return np.ptp(self.object_voxels, axis=0) * self.voxel_mm

    @cached_property
    def object_voxels(self) -> np.ndarray:
        """First and last voxel of the object along x, y, z: `(2, 3)`. Found once; every slice asks for it."""
        inside = self.cover > 0.5
        used = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        return np.array([[voxels[0] for voxels in used], [voxels[-1] for voxels in used]])

    @property
    def slice_range_mm(self) -> tuple[float, float]:
        """Where slice centres may lie: between the first and the last plane."""
        return float(self.start_mm[self.axis]), float(self.end_mm[self.axis])

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

    if not Path(path).is_file():
        raise InputError(f"{path} is not a file; --from takes a NIfTI volume (.nii or .nii.gz), or phantom")
    try:
        image: Any = nibabel.load(path)
        require_room(f"{path} of shape {image.shape}", n_bytes(image.shape, np.dtype(float).itemsize))
        image = nibabel.as_closest_canonical(image)
        values = np.asarray(image.dataobj)
    except InputError:
        raise
    except Exception as error:  # a damaged file makes nibabel, gzip and zlib raise anything
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path} cannot be read as NIfTI ({reason}); --from takes .nii or .nii.gz files") from error
    n_frames = int(np.prod(values.shape[3:]))
    values = _first_frame(values, path)
    voxel = np.array(image.header.get_zooms()[:3], dtype=float)
    center = (np.array(values.shape) - 1) / 2
    values, cover = _object_only(values, path)
    name = Path(path).name.removesuffix(".gz").removesuffix(".nii")
    return MagnitudeSource(values, cover, voxel, -center * voxel, f"{name}-{crc32(values.tobytes()):08x}", n_frames)


def _first_frame(values: np.ndarray, path: str) -> np.ndarray:
    while values.ndim > 3:
        values = values[..., 0]
    if values.ndim != 3 or min(values.shape) < 8:
        raise InputError(f"{path} has shape {values.shape}; --from needs a volume of at least 8 voxels on each axis")
    if np.iscomplexobj(values) or not np.isfinite(values).all():
        raise InputError(
            f"{path} holds {values.dtype} values, some perhaps NaN; --from needs a finite magnitude volume"
        )
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
    cover = _fill(largest)
    near = ndimage.binary_dilation(cover, iterations=2)  # keeps the soft edge of the skin
    return np.where(near, values / bright, 0).astype(np.float32), cover.astype(np.float32)


def _fill(mask: np.ndarray) -> np.ndarray:
    """Fill holes in every axial plane: air inside a head is part of it, the outside is not."""
    return np.stack([ndimage.binary_fill_holes(mask[..., i]) for i in range(mask.shape[-1])], axis=-1)
