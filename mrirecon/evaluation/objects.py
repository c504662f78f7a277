"""Where the object is in an image: the mask that its file holds, else a rule that depends on no scale."""

import numpy as np

STORED, RULE = "object_mask", "threshold-v1"
DESCRIPTION = (
    f"{STORED}: the data set of the file; {RULE}: pixels around which the 5 x 5 mean of the target is above 15 % of "
    "its 99th percentile in the slice, without parts smaller than a tenth of the largest, holes filled; no object in "
    "a slice of which that percentile is below a tenth of the data range"
)
_WINDOW = 5  # pixels on a side
_PERCENTILE, _SHARE = 99, 0.15
_SMALLEST_PART = 0.1  # of the largest
_DARKEST = 0.1  # of the data range


def find_object(target: np.ndarray, data_range: float) -> np.ndarray:
    """The object of a slice by the rule of `DESCRIPTION`, bool `(height, width)`.

    Args:
        target: `(height, width)`, float64; not negative.
        data_range: Maximum of the volume.
    """
    from scipy import ndimage

    smooth = ndimage.uniform_filter(target, _WINDOW, mode="nearest")
    bright = np.percentile(smooth, _PERCENTILE)
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
    return ~is_air[outside]
