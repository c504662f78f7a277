"""A real magnitude volume: read from NIfTI, freed of its background."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from scipy import ndimage

from mrirecon.data.hdf5.limits import n_bytes, require_room
from mrirecon.errors import InputError

_FEW_VALUES = 32  # in every second voxel along each axis
_MANY = 0.01  # share of the voxels


@dataclass(frozen=True)
class MagnitudeSource:
    """Part of a volume: values relative to its bright tissue, and where they lie."""

    values: np.ndarray  # (x, y, z) float32, 0 outside the object
    cover: np.ndarray  # (x, y, z) float32, 1 in the object
    voxel_mm: np.ndarray  # (3,)
    start_mm: np.ndarray  # (3,) position of the first voxel
    patient_id: str
    notes: tuple[str, ...] = ()  # what is odd about the file
    axis: int = 2  # across which slabs are cut

    @property
    def end_mm(self) -> np.ndarray:
        """Position of the last voxel, `(3,)`."""
        return self.start_mm + self.voxel_mm * (np.array(self.values.shape) - 1)

    @property
    def object_mm(self) -> np.ndarray:
        """Size `(3,)` of the object along x, y, z, mm."""
        return np.ptp(self.object_voxels, axis=0) * self.voxel_mm

    @cached_property
    def object_voxels(self) -> np.ndarray:
        """First and last voxel `(2, 3)` of the object along x, y, z. Found once, since every slice asks for it."""
        inside = self.cover > 0.5
        used = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        return np.array([[voxels[0] for voxels in used], [voxels[-1] for voxels in used]])

    @property
    def slice_range_mm(self) -> tuple[float, float]:
        """Lowest and highest position of a slice centre, mm: the first and the last plane."""
        return float(self.start_mm[self.axis]), float(self.end_mm[self.axis])

    def spacing_mm(self, n_slices: int) -> tuple[float, float]:
        """Return the smallest and the largest slice distance in mm that keeps `n_slices` in the slab."""
        low, high = self.slice_range_mm
        room = (high - low) / n_slices
        return min(1.5, room), min(6.0, room)


def load_magnitude(path: str, frame: int | None = None) -> MagnitudeSource:
    """Read a NIfTI volume by nibabel, its axes turned to right, anterior, superior (`as_closest_canonical`).

    NIfTI: https://nifti.nimh.nih.gov/nifti-1; axes: https://nipy.org/nibabel/coordinate_systems.html.

    Args:
        path: The file.
        frame: Which volume of a series (x, y, z, t), counted from 0; None: the file holds one.

    Raises:
        InputError: Not there, not NIfTI, not one volume of magnitudes, or empty.
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
    values = _magnitudes(_frame(values, path, frame), path)
    notes = tuple(f"{path}: {note}" for note in _oddities(values))
    voxel = np.array(image.header.get_zooms()[:3], dtype=float)
    if not (np.isfinite(voxel) & (voxel > 0)).all():
        sizes = " x ".join(f"{size:g}" for size in voxel)
        raise InputError(f"{path} has voxels of {sizes} mm; --from needs a volume that knows their size")
    center = (np.array(values.shape) - 1) / 2
    values, cover = _object_only(values, path)
    name = Path(path).name.removesuffix(".gz").removesuffix(".nii")
    return MagnitudeSource(values, cover, voxel, -center * voxel, f"{name}-{crc32(values.tobytes()):08x}", notes)


def _frame(values: np.ndarray, path: str, frame: int | None) -> np.ndarray:
    """Return the volume `(x, y, z)` that is meant; axes of length 1 behind the third count for nothing."""
    shape, series = values.shape, [n for n in values.shape[3:] if n > 1]
    values = values.reshape(*shape[:3], *series)
    if values.ndim == 3 and frame in (None, 0):
        return values
    if values.ndim == 4 and frame is not None and 0 <= frame < series[0]:
        return values[..., frame]
    last = f"--frame 0 to --frame {series[0] - 1}" if len(series) == 1 else ""
    if frame is None and last:
        raise InputError(f"{path} has shape {shape}, a series of {series[0]} volumes; choose one: {last}")
    if frame is not None and len(series) < 2 and values.ndim >= 3:
        raise InputError(
            f"--frame {frame} of {path}, which has shape {shape}; {f'give {last}' if last else 'leave it out'}"
        )
    raise InputError(
        f"{path} has shape {shape}; --from takes one volume (x, y, z), or a series (x, y, z, t) with --frame: "
        "cut one out of it, and save it as a file"
    )


def _magnitudes(values: np.ndarray, path: str) -> np.ndarray:
    if min(values.shape) < 8:
        raise InputError(f"{path} has shape {values.shape}; --from needs a volume of at least 8 voxels on each axis")
    if values.dtype.kind not in "fiub":
        kind = "colours" if values.dtype.names else f"{values.dtype} values"
        raise InputError(f"{path} holds {kind}; --from needs magnitudes: one real number for each voxel")
    if n_bad := int(values.size - np.isfinite(values).sum()):
        raise InputError(
            f"{path} holds NaN or infinity in {n_bad} of {values.size} voxels; --from needs finite magnitudes: "
            "set them to 0"
        )
    return values.astype(np.float32)


def _oddities(values: np.ndarray) -> list[str]:
    """Return notes on properties that no magnitude image of a scanner has, though images can be made of it."""
    notes = []
    n_values = len(np.unique(values[::2, ::2, ::2]))
    if 1 < n_values <= _FEW_VALUES:
        notes.append(f"only {n_values} different values, as labels have; the images will show flat regions")
    if (below := float((values < 0).mean())) > _MANY:
        notes.append(f"{below:.0%} of the voxels are negative, which magnitudes are not, and count as 0")
    return notes


def _object_only(values: np.ndarray, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return values and the filled shape of the object, `(x, y, z)` both.

    Values are relative to bright tissue, and 0 in the background. The object is the largest connected part above
    8 % of the 98th percentile, after a binary opening.
    """
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
    # Holes are filled in every axial plane: air inside a head is part of it, the outside is not.
    cover = np.stack([ndimage.binary_fill_holes(largest[..., i]) for i in range(largest.shape[-1])], axis=-1)
    near = ndimage.binary_dilation(cover, iterations=2)  # keeps the soft edge of the skin
    return np.where(near, values / bright, 0).astype(np.float32), cover.astype(np.float32)
