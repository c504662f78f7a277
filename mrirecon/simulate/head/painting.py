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
    """Return the distance `(...)` in mm of points `(3, ...)` to an axis-parallel ellipsoid, exact to first order at it.

    Negative inside: |x / r| - 1 divided by the length of its gradient, as in Quilez,
    https://iquilezles.org/articles/distfunctions/.

    Args:
        points: `(3, ...)` mm, float32.
        center: `(3,)` mm.
        radii: `(3,)` mm.
    """
    offset = points - _column(center, points)
    scaled = offset / _column(radii, points)
    level = _length(scaled)
    scaled /= _column(radii, points)
    slope = _length(scaled)
    return level * (level - 1) / np.maximum(slope, np.float32(1e-6))


def tube(points: np.ndarray, path: Sequence[Triple], radii: Sequence[float], flatten: float = 1.0) -> np.ndarray:
    """Return the distance `(...)` in mm to a bent tube through `path`; negative inside.

    Pieces are the capsules of Quilez, https://iquilezles.org/articles/distfunctions/, with radii that change along
    them, joined by `smooth_min`.

    Args:
        points: `(3, ...)` mm, float32.
        path: Points `(3,)` in mm of its axis.
        radii: Radius in mm at each of them, linear between.
        flatten: Above 1 makes it thinner along x.
    """
    stretch = np.array([flatten, 1.0, 1.0], dtype=np.float32)
    points = points * stretch.reshape(3, *([1] * (points.ndim - 1)))
    corners = [np.asarray(p, dtype=np.float32) * stretch for p in path]
    ends = pairwise(zip(corners, radii, strict=True))
    pieces = (_segment(points, a, b, radius_a, radius_b) for (a, radius_a), (b, radius_b) in ends)
    return reduce(lambda one, other: smooth_min(one, other, 2.0), pieces)


def smooth_min(a: np.ndarray, b: np.ndarray, width_mm: float) -> np.ndarray:
    """Return the smaller of two distances `(...)` in mm, rounded where they are within `width_mm` of each other.

    The quadratic polynomial smooth minimum of Quilez, https://iquilezles.org/articles/smin/.
    """
    blend = np.maximum(width_mm - np.abs(a - b), 0) / np.float32(width_mm)
    return np.minimum(a, b) - blend * blend * np.float32(width_mm / 4)


def inside(distance: np.ndarray, edge_mm: float) -> np.ndarray:
    """Return the share `(...)` of each point that lies inside, 0 to 1, from its distance in mm to the body."""
    return np.clip(0.5 - distance / np.float32(edge_mm), 0, 1)


def _put_over(signal: np.ndarray, cover: np.ndarray, value: np.ndarray | np.floating | float) -> None:
    """Put `value` over `signal` `(n,)`, in place, where `cover` `(n,)` is, 0 to 1."""
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
        """Return all points of `plane` in the frame of a head of the scale `size` `(3,)`."""
        points = plane.points().reshape(3, -1) / size.astype(np.float32)[:, None]
        return cls(plane, points, np.ones(plane.shape, dtype=bool), edge_mm)

    def where(self, keep: np.ndarray) -> "Cut":
        """Return only the points for which `keep` `(n,)` is true."""
        chosen = np.zeros_like(self.chosen)
        chosen[self.chosen] = keep
        return Cut(self.plane, self.points[:, keep], chosen, self.edge_mm)

    def field(self, waves: Waves) -> np.ndarray:
        """Return a random field at the points, `(n,)` float32."""
        return waves.on(self.plane)[self.chosen]

    @cached_property
    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Two corners `(3,)` in mm of the box that holds the points, those of the left side mirrored to the right."""
        x, y, z = self.points
        if not x.size:
            return np.full(3, np.inf), np.full(3, -np.inf)
        low = [0.0 if x.min() < 0 < x.max() else np.abs(x).min(), y.min(), z.min()]
        return np.array(low), np.array([np.abs(x).max(), y.max(), z.max()])

    def meets(self, center: Sequence[float] | np.ndarray, radii: Sequence[float] | np.ndarray) -> bool:
        """Tell whether a point may lie in the box around `center` `(3,)`, x at least 0, or within 6 mm of it.

        Args:
            center: Centre of the box, mm.
            radii: Half its sides, `(3,)` mm.
        """
        reach = np.asarray(radii) + 6
        return bool((self.corners[0] <= center + reach).all() and (self.corners[1] >= center - reach).all())

    @property
    def lowest(self) -> float:
        """Smallest height z of a point, mm; infinity without points."""
        return float(self.corners[0][2])

    @property
    def mirrored(self) -> np.ndarray:
        """The points `(3, n)`, those of the left side mirrored to the right: bodies of both sides in one."""
        return np.concatenate([np.abs(self.points[:1]), self.points[1:]])


class Picture(NamedTuple):
    """Water and fat signals before coils and noise, `(height, width)` float32; white matter has 1."""

    water: np.ndarray
    fat: np.ndarray
    cover: np.ndarray  # share of the point that lies in the object, 0 to 1

    @classmethod
    def blank(cls, shape: tuple[int, ...]) -> "Picture":
        """Return a picture of air."""
        return cls(*(np.zeros(shape, dtype=np.float32) for _ in cls._fields))

    @classmethod
    def mean(cls, pictures: Sequence["Picture"]) -> "Picture":
        """Return the mean of several sections through one slice."""
        return cls(*(np.asarray(np.mean(parts, axis=0, dtype=np.float32)) for parts in zip(*pictures, strict=True)))

    def take(self, chosen: np.ndarray) -> "Picture":
        """Return the signals `(m,)` at the m flat positions where `chosen` `(n,)` is true."""
        return Picture(*(part.reshape(-1)[chosen] for part in self))

    def put(self, chosen: np.ndarray, values: "Picture") -> None:
        """Write `values` `(m,)` to the m flat positions where `chosen` `(n,)` is true, in place."""
        for part, value in zip(self, values, strict=True):
            part.reshape(-1)[chosen] = value

    def paint(self, cover: np.ndarray, contrast: Contrast, tissue: str, factor: float | np.ndarray = 1.0) -> None:
        """Put a tissue over the picture, in place: the operator "over" of Porter and Duff (1984).

        Args:
            cover: Share of each point that it fills, 0 to 1, `(n,)` or `(height, width)` like the picture.
            contrast: How bright the tissues are.
            tissue: A name of `TISSUES`.
            factor: Of the tissue's water signal.
        """
        _put_over(self.water, cover, np.float32(contrast.water[tissue]) * factor)
        _put_over(self.fat, cover, np.float32(contrast.fat[tissue]))

    def clear(self, cover: np.ndarray) -> None:
        """Put air over the picture, in place, where `cover` `(n,)` is, 0 to 1: "over" (Porter and Duff 1984)."""
        for part in self:
            _put_over(part, cover, np.float32(0))
