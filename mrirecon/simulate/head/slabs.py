"""Disjoint parts of one real volume, so that no split sees what another one is made of."""

from dataclasses import replace

import numpy as np

from mrirecon.errors import InputError
from mrirecon.simulate.head.nifti import MagnitudeSource

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
    sizes = _sizes(high - low - gap * (len(wanted) - 1), np.array([counts[split] for split in wanted]))
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


def _sizes(room: int, counts: np.ndarray) -> np.ndarray:
    shares = np.maximum(counts / counts.sum(), _LEAST_SHARE)
    return np.floor(max(room, 0) * shares / shares.sum()).astype(int)


def _slab(source: MagnitudeSource, axis: int, first: int, end: int) -> MagnitudeSource:
    """A copy of the planes from `first` to before `end`: nothing outside can be read any more."""
    cut = tuple(slice(first, end) if i == axis else slice(None) for i in range(3))
    start = source.start_mm.copy()
    start[axis] += first * source.voxel_mm[axis]
    values, cover = source.values[cut].copy(), source.cover[cut].copy()
    return replace(source, values=values, cover=cover, start_mm=start, axis=axis)
