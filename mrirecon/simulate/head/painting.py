"""Painting bodies into a slice: its points, signed distances in mm to simple bodies, signals of water and fat."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mrirecon.simulate.fields import Waves
from mrirecon.simulate.head.contrast import Contrast
from mrirecon.simulate.plane import Plane

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


def _put_over(signal: np.ndarray, cover: np.ndarray, value: np.ndarray | np.floating | float) -> None:
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


@dataclass(frozen=True)
class Cut:
    """Some points of a plane, in the head's own frame, as flat lists: bodies are evaluated only where they can be."""

    plane: Plane
    points: np.ndarray  # (3, n) float32, mm
    chosen: np.ndarray  # (height, width) bool
    edge_mm: float  # over which edges are spread

    @classmethod
    def of(cls, plane: Plane, size: np.ndarray, edge_mm: float) -> "Cut":
        """All points of `plane`; `size` (3,) is the scale of the head."""
        points = plane.points().reshape(3, -1) / size.astype(np.float32)[:, None]
        return cls(plane, points, np.ones(plane.shape, dtype=bool), edge_mm)

    def where(self, keep: np.ndarray) -> "Cut":
        """Only the points for which `keep` (n,) is true."""
        chosen = np.zeros_like(self.chosen)
        chosen[self.chosen] = keep
        return Cut(self.plane, self.points[:, keep], chosen, self.edge_mm)

    def field(self, waves: Waves) -> np.ndarray:
        """A random field at the points, `(n,)` float32."""
        return waves.on(self.plane)[self.chosen]

    @cached_property
    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the box that holds the points, those of the left side mirrored to the right."""
        x, y, z = self.points
        if not x.size:
            return np.full(3, np.inf), np.full(3, -np.inf)
        low = [0.0 if x.min() < 0 < x.max() else np.abs(x).min(), y.min(), z.min()]
        return np.array(low), np.array([np.abs(x).max(), y.max(), z.max()])

    def meets(self, center: Sequence[float] | np.ndarray, radii: Sequence[float] | np.ndarray) -> bool:
        """Some point may lie in the box around `center` (x at least 0), or within 6 mm of it."""
        reach = np.asarray(radii) + 6
        return bool((self.corners[0] <= center + reach).all() and (self.corners[1] >= center - reach).all())

    @property
    def lowest(self) -> float:
        """Smallest height of a point; infinity without points."""
        return float(self.corners[0][2])

    @property
    def mirrored(self) -> np.ndarray:
        """The points, those of the left side moved to the right: bodies of both sides in one."""
        return np.concatenate([np.abs(self.points[:1]), self.points[1:]])


class Picture(NamedTuple):
    """Signals `(height, width)`, float32; white matter has 1."""

    water: np.ndarray
    fat: np.ndarray
    cover: np.ndarray  # share of the point that lies in the object, 0 to 1

    @classmethod
    def blank(cls, shape: tuple[int, ...]) -> "Picture":
        """Nothing there."""
        return cls(*(np.zeros(shape, dtype=np.float32) for _ in cls._fields))

    @classmethod
    def mean(cls, pictures: Sequence["Picture"]) -> "Picture":
        """Of several sections through one slice."""
        return cls(*(np.asarray(np.mean(parts, axis=0, dtype=np.float32)) for parts in zip(*pictures, strict=True)))

    def take(self, chosen: np.ndarray) -> "Picture":
        """The parts at the flat positions where `chosen` (n,) is true."""
        return Picture(*(part.reshape(-1)[chosen] for part in self))

    def put(self, chosen: np.ndarray, values: "Picture") -> None:
        """Write `values` back to those positions, in place."""
        for part, value in zip(self, values, strict=True):
            part.reshape(-1)[chosen] = value

    def paint(self, cover: np.ndarray, contrast: Contrast, tissue: str, factor: float | np.ndarray = 1.0) -> None:
        """Put a tissue over what is there, in place."""
        _put_over(self.water, cover, np.float32(contrast.water[tissue]) * factor)
        _put_over(self.fat, cover, np.float32(contrast.fat[tissue]))

    def clear(self, cover: np.ndarray) -> None:
        """Put air over what is there, in place."""
        for part in self:
            _put_over(part, cover, np.float32(0))
