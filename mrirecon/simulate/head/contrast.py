"""Tissues, and how bright a pulse sequence shows them."""

from dataclasses import dataclass

import numpy as np

from mrirecon.errors import unknown_name

# T1 ms, T2 ms, water density, fat density: near the usual values at 1.5 T
TISSUES: dict[str, tuple[float, float, float, float]] = {
    "skin": (700, 45, 0.55, 0.15),
    "fat": (265, 85, 0.08, 0.90),
    "muscle": (1000, 45, 0.72, 0.03),
    "bone": (400, 12, 0.06, 0.02),
    "marrow": (380, 60, 0.18, 0.50),
    "csf": (4200, 1500, 1.00, 0.0),
    "dura": (900, 50, 0.45, 0.0),
    "grey": (960, 92, 0.82, 0.0),
    "white": (610, 74, 0.70, 0.0),
    "nucleus": (820, 78, 0.79, 0.0),
    "thalamus": (780, 80, 0.78, 0.0),
    "eye": (3800, 900, 0.98, 0.0),
    "lens": (1100, 40, 0.6, 0.0),
    "lesion": (1350, 160, 0.90, 0.0),
    "core": (2600, 500, 0.95, 0.0),
    "blood": (1400, 120, 0.9, 0.0),
    "mucosa": (1300, 110, 0.9, 0.0),
}
_TIMINGS = {  # repetition and echo time in ms
    "T1": ((380, 750), (8, 16)),
    "T1 prepared": ((1700, 2500), (2, 5)),  # by an inversion, as in MPRAGE
    "T2": ((3000, 6500), (75, 115)),
    "PD": ((2000, 4000), (10, 30)),
    "FLAIR": ((7000, 11000), (80, 130)),
    "GRE": ((15, 400), (2, 10)),
}
_FAT_T1, _FAT_T2 = 265.0, 85.0
CONTRASTS = ("T1", "T2", "PD", "FLAIR", "GRE")


@dataclass(frozen=True)
class Contrast:
    """Signal of each tissue, its water and its fat part, relative to the water of white matter."""

    name: str
    water: dict[str, float]
    fat: dict[str, float]
    fat_phase: float  # rad, of fat against water at the echo


def random_contrast(rng: np.random.Generator, name: str = "") -> Contrast:
    """Draw a sequence of the kind `name` (any when empty) with its own timing, and tissues with their own scatter.

    Signal equations of spin echo, inversion recovery and spoiled gradient echo (Bernstein, King and
    Zhou 2004, Handbook of MRI Pulse Sequences, chapter 14).

    Raises:
        InputError: There is no such contrast.
    """
    name = name or str(rng.choice(CONTRASTS, p=[0.36, 0.22, 0.12, 0.14, 0.16]))
    if name not in CONTRASTS:
        raise unknown_name("contrast", name, CONTRASTS)
    signal = _Sequence(name, rng)
    fat_kept = rng.uniform(0.03, 0.3) if name != "T1" and rng.random() < 0.35 else rng.uniform(0.8, 1.0)
    shared = np.exp(rng.normal(0, (0.0, 0.05, 0.05)))  # age and field strength move all tissues together
    water, fat = {}, {}
    for tissue, (t1, t2, water_density, fat_density) in TISSUES.items():
        scatter = np.exp(rng.normal(0, 0.025, 3)) * shared
        water[tissue] = water_density * scatter[0] * signal(t1 * scatter[1], t2 * scatter[2])
        fat[tissue] = fat_density * fat_kept * signal(_FAT_T1, _FAT_T2)
    water["blood"] *= rng.uniform(1.2, 3.5) if name == "GRE" else rng.uniform(0.0, 0.5)  # inflow, flow void
    unit = water["white"]
    return Contrast(
        name,
        {tissue: float(value / unit) for tissue, value in water.items()},
        {tissue: float(value / unit) for tissue, value in fat.items()},
        float(rng.uniform(0, 2 * np.pi)) if name == "GRE" else float(rng.normal(0, 0.15)),
    )


class _Sequence:
    """Signal (magnitude) as a function of T1 and T2 in ms, for one drawn timing."""

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        prepared = name == "FLAIR" or (name == "T1" and rng.random() < 0.5)
        repetition, echo = _TIMINGS["T1 prepared" if name == "T1" and prepared else name]
        self.repetition, self.echo = rng.uniform(*repetition), rng.uniform(*echo)
        self.flip = np.deg2rad(rng.uniform(15, 70)) if name == "GRE" else None
        null = np.log(2) - np.log1p(np.exp(-self.repetition / TISSUES["csf"][0]))
        fluid_null = TISSUES["csf"][0] * null * rng.uniform(0.92, 1.02)
        self.inversion = (fluid_null if name == "FLAIR" else rng.uniform(800, 1050)) if prepared else None

    def __call__(self, t1: float, t2: float) -> float:
        recovered = np.exp(-self.repetition / t1)
        if self.flip is not None:
            longitudinal = np.sin(self.flip) * (1 - recovered) / (1 - np.cos(self.flip) * recovered)
            return float(longitudinal * np.exp(-self.echo / (0.6 * t2)))
        longitudinal = 1 - recovered
        if self.inversion is not None:
            longitudinal = abs(1 - 2 * np.exp(-self.inversion / t1) + recovered)
        return float(longitudinal * np.exp(-self.echo / t2))
