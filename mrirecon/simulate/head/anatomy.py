"""One random head: the numbers that make it different from another, and the folds of its brain.

Positions are in mm, x right, y front, z up, the origin in mid-brain. Sulci are sheets of fluid that dip into the
surface of the brain, lined with grey matter.
"""

from dataclasses import dataclass

import numpy as np

from mrirecon.simulate.fields import PeriodicField, Waves
from mrirecon.simulate.head.painting import Cut, ellipsoid, smooth_min

_REFERENCE_RADIUS_MM = 75.0


@dataclass(frozen=True)
class Folding:
    """One generation of sulci: zero sets of a field that is carried inwards along the radius."""

    field: PeriodicField
    wavelength_mm: float
    depth_mm: tuple[float, float]  # shallowest and deepest
    half_width_mm: float

    def distance(self, projected: np.ndarray, depth: np.ndarray, vary: np.ndarray) -> np.ndarray:
        """Return the distance `(n,)` in mm to the fluid of the nearest sulcus, negative in it.

        Args:
            projected: Where the field is read, `(3, n)` mm.
            depth: Below the brain's hull, `(n,)` mm.
            vary: Field of mean 0 and variance 1, `(n,)`, that makes sulci deeper and shallower.
        """
        sheet = np.abs(self.field.at(projected)) * np.float32(self.wavelength_mm / (2 * np.pi) / 0.9)
        low, high = self.depth_mm
        reach = np.float32(low) + np.float32(high - low) * np.clip(0.6 + 0.4 * vary, 0, 1)
        beyond = np.maximum(depth - reach, 0)
        narrowing = np.float32(self.half_width_mm) * np.clip(1.3 - depth / reach, 0.15, 1.0)
        return np.hypot(sheet, beyond) - narrowing


@dataclass(frozen=True)
class Cortex:
    """All folds of one brain and the thickness of its grey matter."""

    foldings: tuple[Folding, ...]
    wander: tuple[Waves, Waves, Waves]  # moves the folds sideways, so that they bend on their way in
    wander_mm: float
    vary: Waves
    fissure_bend: Waves
    fissure_half_width_mm: float
    sylvian: tuple[float, float, float]  # height, slope, half width
    grey_mm: float
    callosum: tuple[np.ndarray, np.ndarray]  # centre and radii of what the midline fissure spares

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Cortex":
        """Draw a cortex: atrophy widens all sulci together; spacing and depth vary on their own."""
        atrophy = rng.uniform(0.35, 1.25) ** 1.3
        large, middle, small = rng.uniform(44, 60), rng.uniform(26, 34), rng.uniform(17, 22)
        return cls(
            foldings=(
                Folding(PeriodicField.random(rng, large), large, (14, rng.uniform(22, 30)), 0.9 * atrophy),
                Folding(PeriodicField.random(rng, middle), middle, (10, rng.uniform(20, 28)), 0.75 * atrophy),
                Folding(PeriodicField.random(rng, small), small, (0.5, rng.uniform(3, 6)), 0.5 * atrophy),
            ),
            wander=tuple(Waves.random(rng, (24, 60), 24) for _ in range(3)),  # type: ignore[arg-type]
            wander_mm=rng.uniform(2.0, 4.5),
            vary=Waves.random(rng, (18, 50), 24),
            fissure_bend=Waves.random(rng, (40, 90), 12, stretch=(9, 1, 1)),
            fissure_half_width_mm=0.5 + 0.6 * atrophy,
            sylvian=(rng.uniform(-6, 4), rng.uniform(0.15, 0.5), rng.uniform(0.3, 0.6) + 0.8 * atrophy),
            grey_mm=rng.uniform(2.0, 3.0),
            callosum=(
                np.array([0, rng.uniform(-16, -8), rng.uniform(2, 8)]),
                np.array([99, rng.uniform(38, 46), rng.uniform(22, 28)]),
            ),
        )

    def fluid_distance(self, cut: Cut, depth: np.ndarray, center: np.ndarray) -> np.ndarray:
        """Return the distance `(n,)` in mm to the nearest fluid outside or in a fold, negative in it.

        Args:
            cut: The points, n of them.
            depth: Distance below the brain's hull, positive inside, `(n,)`.
            center: `(3,)` mm, where the radii of the folds meet.
        """
        vary = cut.field(self.vary)
        fissures = self._fissures(cut, vary)
        distance = np.minimum(depth, fissures)
        fold_depth = np.minimum(depth, 1.7 * fissures + 2)  # folds start from the fissures, too, but are shorter there
        deepest = max(folding.depth_mm[1] for folding in self.foldings) + self.grey_mm + 3
        near = (distance > -3) & (fold_depth < deepest)
        shell = cut.where(near)
        projected, part = self._projected(shell, center), distance[near]
        for folding in self.foldings:
            part = smooth_min(part, folding.distance(projected, fold_depth[near], vary[near]), 1.5)
        distance[near] = part
        return distance

    def _projected(self, cut: Cut, center: np.ndarray) -> np.ndarray:
        """Return the points `(3, n)` in mm at which the folds' fields are read.

        Points move along the radius most of the way to the surface, so that folds go inwards, and wander sideways.
        """
        offset = cut.points - center.astype(np.float32)[:, None]
        radius = np.sqrt(np.einsum("in,in->n", offset, offset))
        surface = np.float32(_REFERENCE_RADIUS_MM) / np.maximum(radius, 48)
        offset *= np.float32(0.25) + np.float32(0.75) * surface
        for axis, wave in enumerate(self.wander):
            offset[axis] += np.float32(self.wander_mm) * cut.field(wave)
        return offset

    def _fissures(self, cut: Cut, vary: np.ndarray) -> np.ndarray:
        """Return the distance `(n,)` in mm to the fissure between the hemispheres or a Sylvian one with the insula."""
        x, y, z = cut.points
        bend = cut.field(self.fissure_bend)
        in_midplane = np.stack([np.zeros_like(y), y, z])
        spared = np.maximum(-ellipsoid(in_midplane, self.callosum[0], self.callosum[1]), 0)
        midline = np.hypot(x + np.float32(0.8) * bend, spared) - np.float32(self.fissure_half_width_mm)
        height, slope, half_width = self.sylvian
        sheet = z - np.float32(height) + np.float32(slope) * y + 5 * vary
        outside = np.maximum(37 - np.abs(x), 0) + np.maximum(np.abs(y + 3) - 28, 0)
        insula = np.abs(x) - 37 + 0.012 * (y - 2) ** 2 + 1.5 * vary
        beside = np.maximum(np.abs(y - 1) - 24, 0) + np.maximum(np.abs(z - 4) - 15, 0)
        lateral = np.minimum(np.hypot(sheet, outside), np.hypot(insula, beside))
        return np.minimum(midline, lateral - np.float32(half_width))


@dataclass(frozen=True)
class Lesion:
    """A blob with an uneven edge, sometimes with a fluid core."""

    center: np.ndarray
    radii: np.ndarray
    core: float  # radius of the fluid core, relative; 0: none


@dataclass(frozen=True)
class Anatomy:
    """Sizes and places of everything but the folds, which `cortex` has."""

    cerebrum_center: np.ndarray
    cerebrum_radii: np.ndarray
    below_radius: float  # the cerebrum is flatter below its centre
    narrow_front: float
    fossa_center: np.ndarray
    fossa_radii: np.ndarray
    hull_wave: Waves
    hull_mm: float
    csf_mm: float
    skull_mm: float
    marrow: float  # share of the skull's thickness
    scalp_mm: float
    layer_wave: Waves
    ventricle: float  # width, relative
    face: bool
    eyes: bool
    lesions: tuple[Lesion, ...]
    folia: Waves
    patches: Waves  # muscle or fat outside the skull
    iron: float  # darkness of the pallidum
    asymmetry: Waves
    cortex: Cortex


def random_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a head."""
    radii = np.array([rng.uniform(63, 71), rng.uniform(80, 90), rng.uniform(60, 69)])
    return Anatomy(
        cerebrum_center=np.array([0.0, rng.uniform(-20, -14), rng.uniform(9, 14)]),
        cerebrum_radii=radii,
        below_radius=rng.uniform(40, 47),
        narrow_front=rng.uniform(0.0, 0.15),
        fossa_center=np.array([0.0, rng.uniform(-54, -46), rng.uniform(-38, -32)]),
        fossa_radii=np.array([rng.uniform(49, 55), rng.uniform(36, 42), rng.uniform(25, 30)]),
        hull_wave=Waves.random(rng, (60, 140), 24),
        hull_mm=rng.uniform(0.4, 1.3),
        csf_mm=rng.uniform(1.2, 3.8),
        skull_mm=rng.uniform(4.5, 9.5),
        marrow=rng.uniform(0.25, 0.55),
        scalp_mm=rng.uniform(3.5, 7.5),
        layer_wave=Waves.random(rng, (35, 120), 24),
        ventricle=rng.uniform(0.6, 1.45),
        face=rng.random() < 0.95,
        eyes=rng.random() < 0.9,
        lesions=_random_lesions(rng),
        folia=Waves.random(rng, (7, 10), 40, stretch=(4, 1, 1)),
        patches=Waves.random(rng, (9, 45), 48),
        iron=rng.uniform(0.65, 0.95),
        asymmetry=Waves.random(rng, (50, 110), 24),
        cortex=Cortex.random(rng),
    )


def _random_lesions(rng: np.random.Generator) -> tuple[Lesion, ...]:
    """None in most heads, some small ones in the white matter, or rarely one large one."""
    kind = rng.random()
    count, sizes = (int(rng.integers(3, 12)), (1.5, 5.0)) if kind < 0.25 else (1, (8.0, 18.0))
    if kind >= 0.35:
        return ()
    lesions = []
    for _ in range(count):
        side = rng.choice([-1, 1])
        center = np.array([side * rng.uniform(15, 42), rng.uniform(-65, 35), rng.uniform(0, 42)])
        radii = rng.uniform(*sizes) * rng.uniform(0.7, 1.3, 3)
        lesions.append(Lesion(center, radii, float(rng.choice([0.0, rng.uniform(0.4, 0.75)]))))
    return tuple(lesions)
