"""Compute what a study can find, how many seeds would find it, and when two methods are equivalent."""

import numpy as np

from mrirecon.errors import InputError
from mrirecon.evaluation.stats.crossed import SEEDS, VOLUMES, Effect, checked_level

MAX_SEEDS = 1000  # more are no plan


def minimum_detectable_effect(effect: Effect, level: float = 0.95, power: float = 0.8) -> float:
    """The true difference that a study like this one finds with probability `power`, in units of the metric.

    Found: the t interval at `level` excludes 0 on the right side. A multiple of the standard error, as in Bloom 1995
    (Evaluation Review 19:547), but exact: from the noncentral t distribution, not the sum of two t quantiles.

    Raises:
        InputError: A level outside of 0 to 1, or a power outside of 0.5 to 1.
    """
    return float(_detectable(np.array(effect.se), np.array(effect.df), level, power))


def seeds_needed(effect: Effect, wanted: float, level: float = 0.95, power: float = 0.8) -> int | None:
    """The fewest paired seeds that find a true difference of `wanted` with probability `power`, on the same patients.

    The variances are taken as this study estimates them; standard error and degrees of freedom (Satterthwaite 1946)
    are those of a study with so many seeds. See `minimum_detectable_effect`.

    Returns:
        The number (2 or more), or None: no number up to 1000 does, since the differences between patients remain,
        or one seed tells nothing about others.

    Raises:
        InputError: A level outside of 0 to 1, or a power outside of 0.5 to 1.
    """
    checked_level(level)
    if effect.generalizes == VOLUMES or not abs(wanted) > 0:
        return None

    def first_enough(seeds: np.ndarray) -> int | None:
        """Return the index of the first of `seeds` (n,), ascending, that suffices; None: none does."""
        enough = _detectable(*_with_seeds(effect, seeds), level, power) <= abs(wanted)
        return int(enough.argmax()) if enough.any() else None

    coarse = np.unique(np.geomspace(2, MAX_SEEDS, 60).round().astype(int))
    found = first_enough(coarse)
    if not found:
        return None if found is None else int(coarse[0])
    fine = np.arange(coarse[found - 1] + 1, coarse[found] + 1)
    return int(fine[first_enough(fine) or 0])


def probability_of_superiority(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of pairs in which `a` is above `b`, ties counted half.

    The paired form of the measure A of Vargha and Delaney 2000 (J. Educ. Behav. Stat. 25:101).

    Args:
        a: One value per seed, (n_seeds,).
        b: The other method's, at the same seeds.

    Raises:
        InputError: Not the same number of values, or none.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise InputError(f"values of shapes {a.shape} and {b.shape}; give one pair for each seed")
    return float((a > b).mean() + (a == b).mean() / 2)


def tost_p(effect: Effect, margin: float) -> float:
    """P value of equivalence: two one-sided t tests of a difference within -margin to margin (Schuirmann 1987).

    At most .05 says what a 90 % interval within the margin says.

    Raises:
        InputError: A margin that is not above 0.
    """
    from scipy.special import stdtr

    if not margin > 0:
        raise InputError(f"equivalence margin {margin}; it must be above 0, in units of the metric")
    room = margin - abs(effect.mean)
    if effect.se == 0:
        return 0.0 if room > 0 else 1.0
    return float(stdtr(effect.df, -room / effect.se))


def _detectable(se: np.ndarray, df: np.ndarray, level: float, power: float) -> np.ndarray:
    """Return the detectable difference for each standard error and degrees of freedom, (n,) or () each."""
    from scipy.special import nctdtrinc, stdtrit

    if not 0.5 <= power < 1:
        raise InputError(f"power {power}; it must be from 0.5 to below 1, for example 0.8")
    critical = stdtrit(df, (1 + checked_level(level)) / 2)
    return se * nctdtrinc(df, 1 - power, critical)


def _with_seeds(effect: Effect, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute standard error and Satterthwaite degrees of freedom, (n,) each, of a study with `seeds` (n,) instead."""
    if effect.generalizes == SEEDS:
        return effect.sd_seeds / np.sqrt(seeds), seeds - 1.0
    n_units = effect.n_units
    residual = effect.sd_residual**2
    rows, columns = residual + n_units * effect.sd_seeds**2, residual + seeds * effect.sd_units**2
    total = rows + columns - residual
    dof = seeds - 1.0, n_units - 1.0, (seeds - 1.0) * (n_units - 1)
    spread = rows**2 / dof[0] + columns**2 / dof[1] + residual**2 / dof[2]
    smallest = np.minimum(dof[0], dof[1])
    df = np.maximum(np.divide(total**2, spread, out=np.array(smallest), where=spread > 0), smallest)
    return np.sqrt(total / (seeds * n_units)), df
