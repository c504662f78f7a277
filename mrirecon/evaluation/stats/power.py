"""What a study of a design can find, for planning: no verdict rests on it."""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mrirecon.errors import InputError
from mrirecon.evaluation.stats.crossed import Parts, checked_level, half_width

MOST = 1000  # seeds or patients; more are no plan
_POINTS = 12  # of log2: draws of the mean squares


class Variances(NamedTuple):
    """Standard deviations of one paired difference, in units of the metric."""

    seeds: float  # between seeds, the same for all patients
    patients: float  # between patients, the same for all seeds
    rest: float


def detectable_difference(
    sds: Variances, n_seeds: int, n_patients: int, n_comparisons: int = 1, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The true difference at which the simultaneous interval excludes 0 on its side with probability `power`.

    For normal effects of these standard deviations: the mean squares are chi-squared, the interval of each draw of
    them excludes 0 with a normal probability, and the mean of it over 4096 quasi-random draws (Sobol 1967) is the
    power.

    Raises:
        InputError: Fewer than 2 seeds or patients, or a power outside of 0.5 to 1.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr

    if min(n_seeds, n_patients) < 2 or not 0.5 <= power < 1:
        raise InputError(
            f"{n_seeds} seeds, {n_patients} patients, power {power}; give 2 or more of each and a power from 0.5 to "
            "below 1"
        )
    rest = sds.rest**2 / (n_seeds * n_patients)
    expected = np.array([sds.seeds**2 / n_seeds + rest, sds.patients**2 / n_patients + rest, rest])
    seeds, patients, left = expected[:, None] * _mean_squares(n_seeds, n_patients)
    n = np.ones_like(patients, dtype=int)
    drawn = Parts(np.zeros_like(seeds), seeds[:, None], left[:, None], patients, n_seeds * n[:, None], n_patients * n)
    half, se = half_width(drawn, alpha / n_comparisons), float(np.sqrt(expected[0] + expected[1] - rest))
    if se == 0:
        return 0.0
    return float(brentq(lambda size: ndtr((size - half) / se).mean() - power, 0, half.max() + 9 * se))


@lru_cache(maxsize=8)
def _mean_squares(n_seeds: int, n_patients: int) -> np.ndarray:
    """Draws of the mean squares of seeds, patients and rest over their expectations, (3, 4096); not to be changed."""
    from scipy.special import chdtri
    from scipy.stats.qmc import Sobol

    dof = np.array([n_seeds - 1, n_patients - 1, (n_seeds - 1) * (n_patients - 1)])[:, None]
    points = Sobol(3, rng=0).random_base2(_POINTS).T
    return np.asarray(chdtri(dof, np.clip(points, 1e-12, 1 - 1e-12))) / dof


def deciding_designs(parts: Parts, margin: float, n_comparisons: int = 1, alpha: float = 0.05) -> list[tuple[int, int]]:
    """Designs (seeds of each method, patients) at which the interval is expected to be no wider than the margin.

    Such an interval always decides, whatever the effect: it cannot hold 0 and reach beyond the margin on both sides.
    Variances are taken as one comparison estimates them. Planning by the expected width, and not by power, is that of
    Kelley and Maxwell (2003, Psychol Methods 8:305).

    Returns:
        The fewest seeds with the same patients, the fewest patients with the same seeds, and the fewest of both when
        they grow alike; those that do not exist below 1000 are left out.
    """
    n_seeds, n_patients = int(parts.n_seeds.max()), int(parts.n_patients)
    up = np.arange(max(MOST, n_seeds) + 1)
    tried = (
        (up[n_seeds:], np.full(len(up) - n_seeds, n_patients)),
        (np.full(len(up) - n_patients, n_seeds), up[n_patients:]) if n_patients > 1 else (up[:0], up[:0]),
        _alike(n_seeds, n_patients),
    )
    found = []
    for seeds, patients in tried:
        enough = 2 * half_width(_redesigned(parts, seeds, patients), alpha / n_comparisons) <= margin
        if enough.any():
            first = int(enough.argmax())
            found.append((int(seeds[first]), int(patients[first])))
    return list(dict.fromkeys(found))


def _alike(n_seeds: int, n_patients: int) -> tuple[np.ndarray, np.ndarray]:
    factors = np.geomspace(1, MOST / min(n_seeds, n_patients), 2000)
    seeds, patients = np.ceil(n_seeds * factors), np.ceil(n_patients * factors)
    kept = (seeds <= MOST) & (patients <= MOST) & (n_patients > 1) & (n_seeds > 1)
    return seeds[kept].astype(int), patients[kept].astype(int)


def _redesigned(parts: Parts, n_seeds: np.ndarray, n_patients: np.ndarray) -> Parts:
    """Expected parts of studies with other numbers, (n,) each; of one comparison."""
    drawn = parts.n_seeds > 1
    of_rest = parts.rest * parts.n_seeds * parts.n_patients
    of_seeds = np.maximum(parts.seeds - parts.rest, 0) * parts.n_seeds
    of_patients = max(float(parts.patients - parts.rest.sum()), 0.0) * float(parts.n_patients)
    seeds = np.where(drawn, n_seeds[:, None], 1)
    rest = of_rest / (seeds * n_patients[:, None])
    return Parts(
        np.zeros(len(n_seeds)),
        of_seeds / seeds + rest,
        rest,
        of_patients / n_patients + rest.sum(axis=-1),
        seeds,
        n_patients,
    )


def exact_share(n: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934, Biometrika 26:404), such as that of runs that diverge.

    Raises:
        InputError: Not 0 to all of one or more, or a level outside of 0 to 1.
    """
    from scipy.special import betaincinv

    if not 0 <= n <= of or of < 1:
        raise InputError(f"{n} of {of}; give a number from 0 to all of one or more")
    tail = (1 - checked_level(level)) / 2
    low = float(betaincinv(n, of - n + 1, tail)) if n else 0.0
    high = float(betaincinv(n + 1, of - n, 1 - tail)) if n < of else 1.0
    return low, high


def probability_of_superiority(
    a: np.ndarray, b: np.ndarray, seeds_a: Sequence[Hashable], seeds_b: Sequence[Hashable]
) -> float | None:
    """Probability that a new run of the first scores above a new run of the second on a new patient, ties half.

    The share of all pairs of runs with different seeds and of all patients: the measure A of Vargha and Delaney 2000
    (J. Educ. Behav. Stat. 25:101), of independent runs. A method without seeds has one run, and None for its seed.

    Args:
        a: Scores of the first, (n_seeds, n_patients).
        b: Of the second, on the same patients.
        seeds_a: Of the runs of the first.
        seeds_b: Of the second.

    Returns:
        None where all runs have the same seed.

    Raises:
        InputError: Other patients.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"scores of shapes {a.shape} and {b.shape}; give (n_seeds, n_patients), the same patients")
    apart = np.array([[x is None or x != y for y in seeds_b] for x in seeds_a])
    if not apart.any():
        return None
    above = (a[:, None] > b).mean(axis=2) + (a[:, None] == b).mean(axis=2) / 2
    return float(above[apart].mean())
