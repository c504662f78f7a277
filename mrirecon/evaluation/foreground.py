"""Where the object is in an image: the mask that its file holds, else a rule that depends on no scale."""

import numpy as np

STORED, RULE = "object_mask", "threshold-v1"
DESCRIPTION = (
    f"{STORED}: the data set of the file; {RULE}: blocks of 2 x 2 pixels around which the mean of 6 x 6 pixels of "
    "the target is above 15 % of their 99th percentile in the slice, without parts smaller than a tenth of "
    "the largest, holes filled; no object in a slice of which that percentile is below a tenth of the data range"
)
_WINDOW = 3  # blocks on a side
_PERCENTILE, _SHARE = 99, 0.15
_SMALLEST_PART = 0.1  # of the largest
_DARKEST = 0.1  # of the data range


def find_object(target: np.ndarray, data_range: float) -> np.ndarray:
    """The object of a slice by the rule of `DESCRIPTION`, bool `(height, width)`.

    Parts touch along an edge, and holes are what they are for `scipy.ndimage.binary_fill_holes`.

    Args:
        target: `(height, width)`, float64; not negative.
        data_range: Maximum of the volume.
    """
    from scipy import ndimage

    smooth = ndimage.uniform_filter(_blocks(target), _WINDOW, mode="nearest")
    rank = _PERCENTILE * (smooth.size - 1) // 100
    bright = np.partition(smooth, rank, axis=None)[rank]
    if not bright > _DARKEST * data_range:
        return np.zeros(target.shape, dtype=bool)
    parts, _ = ndimage.label(smooth > _SHARE * bright)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    is_object = sizes >= _SMALLEST_PART * sizes.max()
    is_object[0] = False
    outside, _ = ndimage.label(~is_object[parts])
    edge = np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
    is_air = np.zeros(outside.max() + 1, dtype=bool)
    is_air[edge] = True  # what no path of air joins with the edge of the image is a hole
    is_air[0] = False
    height, width = target.shape
    return (~is_air[outside]).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]


def _blocks(target: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels; where there is an odd number of rows or columns the last one counts twice."""
    missing = [(0, n % 2) for n in target.shape]
    even = np.pad(target, missing, mode="edge") if any(after for _, after in missing) else target
    rows = even[::2] + even[1::2]
    blocks: np.ndarray = (rows[:, ::2] + rows[:, 1::2]) / 4
    return blocks
