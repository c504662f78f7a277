"""The points of a slice that are being painted."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mrirecon.simulate.head.fields import Waves
from mrirecon.simulate.scanner.plane import Plane


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
