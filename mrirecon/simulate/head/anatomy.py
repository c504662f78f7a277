"""The numbers that make one head different from another; in mm, x right, y front, z up, origin in mid-brain."""

from dataclasses import dataclass

import numpy as np

from mrirecon.simulate.fields import Waves
from mrirecon.simulate.head.cortex import Cortex

Point = tuple[float, float, float]


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
