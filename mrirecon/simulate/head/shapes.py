"""Signed distances in mm, negative inside, of simple bodies; points are float32 arrays `(3, ...)`."""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import numpy as np

Triple = Sequence[float] | np.ndarray


def ellipsoid(points: np.ndarray, center: Triple, radii: Triple) -> np.ndarray:
    """Distance to an axis-parallel ellipsoid, first order at its surface."""
    offset = points - _column(center, points)
    scaled = offset / _column(radii, points)
    level = _length(scaled)
    scaled /= _column(radii, points)
    slope = _length(scaled)
    return level * (level - 1) / np.maximum(slope, np.float32(1e-6))


def tube(points: np.ndarray, path: Sequence[Triple], radii: Sequence[float], flatten: float = 1.0) -> np.ndarray:
    """Distance to a bent tube through `path` whose radius changes between its points.

    `flatten` above 1 makes it thinner along x.
    """
    stretch = np.array([flatten, 1.0, 1.0], dtype=np.float32)
    points = points * stretch.reshape(3, *([1] * (points.ndim - 1)))
    corners = [np.asarray(p, dtype=np.float32) * stretch for p in path]
    ends = pairwise(zip(corners, radii, strict=True))
    pieces = (_segment(points, a, b, radius_a, radius_b) for (a, radius_a), (b, radius_b) in ends)
    return reduce(lambda one, other: smooth_min(one, other, 2.0), pieces)


def smooth_min(a: np.ndarray, b: np.ndarray, width_mm: float) -> np.ndarray:
    """The smaller distance, rounded where both are within `width_mm` (polynomial smooth minimum)."""
    blend = np.maximum(width_mm - np.abs(a - b), 0) / np.float32(width_mm)
    return np.minimum(a, b) - blend * blend * np.float32(width_mm / 4)


def inside(distance: np.ndarray, edge_mm: float) -> np.ndarray:
    """How much of a point lies inside, 0 to 1, the edge spread over `edge_mm`."""
    return np.clip(0.5 - distance / np.float32(edge_mm), 0, 1)


def paint(signal: np.ndarray, cover: np.ndarray, value: np.ndarray | np.floating | float) -> None:
    """Put `value` over `signal`, in place, where `cover` (0 to 1) is."""
    signal += cover * (value - signal)


def _segment(points: np.ndarray, a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float) -> np.ndarray:
    axis = b - a
    offset = points - _column(a, points)
    along = axis / (axis @ axis)
    share = np.clip(offset[0] * along[0] + offset[1] * along[1] + offset[2] * along[2], 0, 1)
    offset -= share * _column(axis, points)
    return _length(offset) - (np.float32(radius_a) + share * np.float32(radius_b - radius_a))


def _length(vectors: np.ndarray) -> np.ndarray:
    x, y, z = vectors
    return np.sqrt(x * x + y * y + z * z)


def _column(values: Triple, points: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float32).reshape(3, *([1] * (points.ndim - 1)))
