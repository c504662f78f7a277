"""The mean of paired differences over seeds and patients that are both drawn: crossed random effects.

A difference d[i, j] between two methods, at seed i and patient j, is mean + seed i + patient j + rest. Seeds and
patients are both samples, so the variance of the mean is var_seeds / n_seeds + var_patients / n_patients
+ var_rest / (n_seeds * n_patients), each part estimated from the mean squares of the two-way table.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mrirecon.errors import InputError
from mrirecon.evaluation.stats.patients import MIN_PATIENTS, N_RESAMPLES, Interval

BOTH, SEEDS, VOLUMES = "seeds and volumes", "seeds", "volumes"  # what an interval speaks about


class Effect(NamedTuple):
    """A mean difference and what its uncertainty is made of; a standard deviation that cannot be known is NaN."""

    mean: float
    low: float
    high: float
    se: float  # standard error of the mean
    df: float  # degrees of freedom of its t
    n_seeds: int
    n_units: int
    sd_seeds: float  # between seeds, the same for all units
    sd_units: float  # between units, the same for all seeds
    sd_residual: float  # what is left
    generalizes: str  # BOTH, SEEDS or VOLUMES: other draws of these are within the interval

    def interval(self, level: float) -> Interval:
        """The interval of Student's t (1908) at another level, with the degrees of freedom of `crossed_effect`."""
        return _t_interval(self.mean, self.se, self.df, level)


class _Parts(NamedTuple):
    """Standard error of a mean, its degrees of freedom and standard deviations."""

    se: float
    df: float
    sd_seeds: float
    sd_units: float
    sd_residual: float


def crossed_effect(d: np.ndarray, level: float = 0.95) -> Effect:
    """Mean of paired differences with a Satterthwaite t interval over seeds and units.

    Squared standard error: (MS_seeds + MS_units - MS_rest) / (n_seeds * n_units), but never below what one factor
    alone gives, MS_seeds / (...) or MS_units / (...): estimated variances of a factor may be negative, which counts
    as 0 (Searle, Casella and McCulloch 1992, Variance Components). Degrees of freedom: Satterthwaite 1946, from
    the three mean squares, and at least those of the smaller factor. With residual noise only the interval is too
    wide rather than too narrow. It is approximate: simulated 95 % intervals of 2 seeds cover about 90 %, and 99.8 %
    intervals (a family of 24) of 6 seeds 99.5 % at worst.

    Args:
        d: Differences, (n_seeds, n_units); units are patients.
        level: Confidence level, between 0 and 1.

    Returns:
        The effect. One seed: over units only. Fewer than 5 units: the units are taken as they are, and the interval
        is over seeds only.

    Raises:
        InputError: Not a table of finite numbers, a level outside of 0 to 1, or one seed and fewer than 5 units.
    """
    d = differences(d)
    n_seeds, n_units = d.shape
    generalizes = what_is_sampled(n_seeds, n_units)
    parts = {BOTH: _crossed, SEEDS: _over_seeds, VOLUMES: _over_units}[generalizes](d)
    mean = float(d.mean())
    low, high = _t_interval(mean, parts.se, parts.df, level)
    return Effect(mean, low, high, parts.se, parts.df, n_seeds, n_units, *parts[2:], generalizes)


def by_patient(d: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Mean over each patient's volumes: (n_seeds, n_volumes) to (n_seeds, n_patients), patients in sorted order.

    Volumes of one patient are no independent draws (pseudoreplication; Hurlbert 1984, Ecol Monogr 54:187).

    Raises:
        InputError: Not one patient for each column.
    """
    d = np.asarray(d, dtype=float)
    if d.ndim != 2 or d.shape[1] != len(patients):
        raise InputError(
            f"differences of shape {d.shape} for {len(patients)} patients; give (n_seeds, n_volumes) and the patient "
            "of each volume"
        )
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    belongs = owner[:, None] == np.arange(len(names))
    return np.stack([d[:, columns].mean(axis=1) for columns in belongs.T], axis=1)


def crossed_bootstrap(d: np.ndarray, level: float = 0.95, seed: int = 0, n_resamples: int = N_RESAMPLES) -> Interval:
    """Percentile interval of the mean, seeds and units resampled independently.

    The pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1:386): a drawn seed brings its whole row, a
    drawn unit its whole column. Which of the two are drawn is as in `crossed_effect`.

    Args:
        d: Differences, (n_seeds, n_units).
        level: Confidence level, between 0 and 1.
        seed: Seed of the resampling.
        n_resamples: How many tables are drawn.

    Raises:
        InputError: As `crossed_effect`.
    """
    d, level = differences(d), checked_level(level)
    generalizes = what_is_sampled(*d.shape)
    rows, columns = _drawn(*d.shape, generalizes, seed, n_resamples)
    means = ((rows @ d) * columns).sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def differences(d: np.ndarray) -> np.ndarray:
    """Check a table of differences (n_seeds, n_units).

    Raises:
        InputError: It has no two axes, no entry, or a value that is not finite.
    """
    d = np.asarray(d, dtype=float)
    if d.ndim != 2 or not d.size:
        raise InputError(f"differences of shape {d.shape}; give a table (n_seeds, n_units) with at least one of each")
    if not np.isfinite(d).all():
        raise InputError(
            f"{(~np.isfinite(d)).sum()} of {d.size} differences are not finite; leave out the seeds that diverged"
        )
    return d


def checked_level(level: float) -> float:
    """Check a confidence level.

    Raises:
        InputError: It is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"confidence level {level}; it must be between 0 and 1, for example 0.95")
    return level


def what_is_sampled(n_seeds: int, n_units: int) -> str:
    """Over what an interval can speak: BOTH, SEEDS or VOLUMES.

    What was not drawn anew is a fixed effect, and says nothing of others (Clark 1973, J Verbal Learning 12:335).

    Raises:
        InputError: Over nothing.
    """
    if n_seeds > 1:
        return BOTH if n_units >= MIN_PATIENTS else SEEDS
    if n_units < MIN_PATIENTS:
        raise InputError(f"1 seed and {n_units} patients say too little; give 2 seeds or {MIN_PATIENTS} patients")
    return VOLUMES


def _crossed(d: np.ndarray) -> _Parts:
    """Estimate from the mean squares of the two-way table `d` (n_seeds, n_units) without replicates."""
    n_seeds, n_units = d.shape
    rows, columns = d.mean(axis=1), d.mean(axis=0)
    rest = d - rows[:, None] - columns + d.mean()
    dof = np.array([n_seeds - 1, n_units - 1, (n_seeds - 1) * (n_units - 1)])
    squares = np.array([n_units * rows.var(ddof=1), n_seeds * columns.var(ddof=1), (rest**2).sum() / dof[2]])
    seeds, units, residual = squares
    total = max(seeds + units - residual, seeds, units)
    spread = float((squares**2 / dof).sum())
    df = max(total**2 / spread if spread else 0.0, min(n_seeds, n_units) - 1)
    sds = np.sqrt(np.maximum([(seeds - residual) / n_units, (units - residual) / n_seeds, residual], 0))
    return _Parts(math.sqrt(total / d.size), float(df), *map(float, sds))


def _over_seeds(d: np.ndarray) -> _Parts:
    """Estimate over seeds alone, of `d` (n_seeds, n_units)."""
    sd = float(d.mean(axis=1).std(ddof=1))
    return _Parts(sd / math.sqrt(len(d)), len(d) - 1, sd, math.nan, math.nan)


def _over_units(d: np.ndarray) -> _Parts:
    """Estimate over units alone, of `d` (1, n_units)."""
    sd = float(d.std(ddof=1))
    return _Parts(sd / math.sqrt(d.size), d.size - 1, math.nan, sd, math.nan)


def _t_interval(mean: float, se: float, df: float, level: float) -> Interval:
    from scipy.special import stdtrit

    half = float(stdtrit(df, (1 + checked_level(level)) / 2)) * se
    return Interval(mean - half, mean + half)


@lru_cache(maxsize=2)  # a family's comparisons share their draws
def _drawn(n_seeds: int, n_units: int, sampled: str, seed: int, n_resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the seeds and of the units in each resample, (n_resamples or 1, n) each; not to be changed."""
    rng = np.random.default_rng(seed)
    rows = _drawn_shares(rng, n_seeds, n_resamples) if sampled != VOLUMES else np.ones((1, 1))
    columns = _drawn_shares(rng, n_units, n_resamples) if sampled != SEEDS else np.full((1, n_units), 1 / n_units)
    return rows, columns


def _drawn_shares(rng: np.random.Generator, n: int, n_resamples: int) -> np.ndarray:
    """The share of each of n things in samples of n with replacement, (n_resamples, n)."""
    drawn = rng.integers(n, size=(n_resamples, n)) + n * np.arange(n_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * n_resamples).reshape(n_resamples, n) / n
