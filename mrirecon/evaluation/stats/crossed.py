"""The interval of a mean difference over seeds and patients that are both drawn, and the p value of the same interval.

A difference d[i, j] between two methods, at seed i and patient j, is mean + seed i + patient j + rest. Seeds and
patients are both samples, so the variance of the mean is var_seeds / n_seeds + var_patients / n_patients
+ var_rest / (n_seeds * n_patients). There is one formula, `half_width`, and all that is said of a difference follows
from it: a p value is the level at which the interval touches 0. At the end: what the same tables say of these patients
alone (sign flips), and where the variance of scores comes from.
"""

import math
from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mrirecon.errors import InputError

BOTH, SEEDS, PATIENTS = "seeds and patients", "seeds", "patients"  # what an interval speaks about
_HALVINGS = 64  # of the range in which a level is sought: to the resolution of a float
_LEAST = math.log(1e-30)  # of p values


class Parts(NamedTuple):
    """Means of differences and their squared standard errors by source; the leading axes (...) are comparisons.

    Seeds are one source where they are paired, k = 1; unpaired, each method's own are one. A source that was not drawn
    has variance 0 and counts 1. `rest` is part of `seeds` and of `patients`.
    """

    mean: np.ndarray  # (...)
    seeds: np.ndarray  # (..., k)
    rest: np.ndarray  # (..., k)
    patients: np.ndarray  # (...)
    n_seeds: np.ndarray  # (..., k)
    n_patients: np.ndarray  # (...)


class Effect(NamedTuple):
    """A mean with its interval; a standard deviation that cannot be known is NaN."""

    mean: float
    low: float
    high: float
    n_seeds: int
    n_patients: int
    sd_seeds: float  # between seeds, the same for all patients
    sd_patients: float  # between patients, the same for all seeds
    sd_rest: float  # what is left
    over: str  # BOTH, SEEDS or PATIENTS: other draws of these are within the interval


def crossed_effect(d: np.ndarray, level: float = 0.95) -> Effect:
    """Mean of a table of scores, or of paired differences, with its interval over seeds and patients: `half_width`.

    Args:
        d: The table, (n_seeds, n_patients).
        level: Confidence level, between 0 and 1.

    Returns:
        The effect. One seed: over patients only; one patient: over seeds only.

    Raises:
        InputError: Not a table of finite numbers, a level outside of 0 to 1, or a single number.
    """
    d = finite_table(d)
    parts = paired_parts(d)
    mean, half = float(parts.mean), float(half_width(parts, 1 - checked_level(level)))
    n_seeds, n_patients = d.shape
    over = what_is_sampled(n_seeds, n_patients)
    return Effect(mean, mean - half, mean + half, n_seeds, n_patients, *standard_deviations(parts), over)


def paired_parts(d: np.ndarray) -> Parts:
    """Parts of tables of paired differences (..., n_seeds, n_patients), from the mean squares of the two-way layout.

    Both its factors are drawn at random (Searle, Casella and McCulloch 1992, Variance Components).
    """
    n_seeds, n_patients = d.shape[-2:]
    mean, seeds, rest, patients = _components(d)
    counts = np.full((*mean.shape, 1), n_seeds), np.full(mean.shape, n_patients)
    return Parts(mean, seeds[..., None], rest[..., None], patients, *counts)


def nested_parts(runs: Sequence[np.ndarray], weights: Sequence[float]) -> Parts:
    """Parts of a weighted sum of methods whose seeds are their own, on the same patients.

    The variance between seeds is estimated for each method apart, as in Welch (1947, Biometrika 34:28).

    Args:
        runs: Scores of each method, (..., n_seeds, n_patients) with numbers of seeds that may differ.
        weights: Of each; 1 and -1 for a difference.
    """
    n_patients = runs[0].shape[-1]
    columns = sum(w * table.mean(axis=-2) for w, table in zip(weights, runs, strict=True))
    own = [_components(table) for table in runs]
    squared = np.square(weights)
    mean = columns.mean(axis=-1)
    return Parts(
        mean,
        np.stack([seeds for _, seeds, _, _ in own], axis=-1) * squared,
        np.stack([rest for _, _, rest, _ in own], axis=-1) * squared,
        columns.var(axis=-1, ddof=1) / n_patients if n_patients > 1 else np.zeros_like(mean),
        np.broadcast_to([table.shape[-2] for table in runs], (*mean.shape, len(runs))),
        np.full(mean.shape, n_patients),
    )


def _components(d: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean and squared standard errors by seeds, rest and patients, (...) each, of (..., n_seeds, n_patients)."""
    n_seeds, n_patients = d.shape[-2:]
    rows, columns, mean = d.mean(axis=-1), d.mean(axis=-2), d.mean(axis=(-1, -2))
    seeds = rows.var(axis=-1, ddof=1) / n_seeds if n_seeds > 1 else np.zeros_like(mean)
    patients = columns.var(axis=-1, ddof=1) / n_patients if n_patients > 1 else np.zeros_like(mean)
    if min(n_seeds, n_patients) == 1:
        return mean, seeds, np.zeros_like(mean), patients
    left = d - rows[..., None] - columns[..., None, :] + mean[..., None, None]
    dof = (n_seeds - 1) * (n_patients - 1)
    return mean, seeds, np.square(left).sum(axis=(-1, -2)) / (dof * n_seeds * n_patients), patients


def half_width(parts: Parts, alpha: float | np.ndarray) -> np.ndarray:
    """Half the width of the interval at level 1 - alpha, (...): the one formula that all verdicts rest on.

    The variance of the mean with the normal quantile z, in which the rest counts once, and for each source c (seeds,
    patients) what Student's quantile t of its own degrees of freedom adds, weighted by a power of its share:

        h^2 = z^2 (sum c - rest) + sum (t_c^2 - z^2) c (c / sum c)^power,   power = 1.25 min(20 alpha, 1)^2

    With a power of 1 that is the approximation of Welch (1947, Biometrika 34:28) to first order, which covers well at
    alpha .05. At the small alpha of families it misses too often: a rare miss is one source underestimated, and then
    its share is, too. So the power falls with alpha, to the sum of squared quantiles (Banerjee 1960, Sankhya 22:359),
    which never misses too often but alone is too wide at .05. Both numbers are from simulation
    (scripts/prove_statistics.py).

    Where seeds are not paired, each method has a spread of its own, and all have n - 1 degrees of freedom with
    n = n_fewest (1 + .2 (n_fewest / n_most)^2), of the runs of the methods with fewest and with most. The method with
    fewest decides, since a few runs of skewed scores can look alike by chance. The factor is there because two methods
    with as many runs tell more of a spread than one.

    In a family of m comparisons alpha / m makes the intervals simultaneous (Bonferroni; Dunn 1961).

    Args:
        parts: Of the differences.
        alpha: Chance that an interval misses, of both sides together; a number or (...).
    """
    from scipy.special import ndtri

    alpha = np.asarray(alpha, dtype=float)[..., None]
    most = parts.n_seeds.max(axis=-1, keepdims=True)
    fewest = np.where(parts.n_seeds > 1, parts.n_seeds, most).min(axis=-1, keepdims=True)
    both = (parts.n_seeds > 1).sum(axis=-1, keepdims=True) > 1
    n_seeds = np.broadcast_to(fewest * (1 + both * 0.2 * (fewest / most) ** 2), parts.seeds.shape)
    sources = np.concatenate([parts.seeds, parts.patients[..., None]], axis=-1)
    counts = np.concatenate([n_seeds, parts.n_patients[..., None]], axis=-1)
    total = sources.sum(axis=-1, keepdims=True)
    shares = sources / np.where(total > 0, total, 1)
    z = ndtri(alpha / 2)
    of_few = (_quantile(counts, alpha / 2) ** 2 - z**2) * sources * shares ** (1.25 * np.minimum(20 * alpha, 1) ** 2)
    once = np.maximum(total[..., 0] - parts.rest.sum(axis=-1), 0)
    return np.sqrt(z[..., 0] ** 2 * once + of_few.sum(axis=-1))


def p_value(parts: Parts, n_comparisons: int = 1) -> np.ndarray:
    """The level at which the simultaneous interval touches 0, (...): at most alpha exactly where 0 lies outside of it.

    Found by halving: `half_width` falls with alpha.

    Args:
        parts: Of the differences.
        n_comparisons: Of the family.
    """
    size = np.abs(parts.mean)
    low, high = np.full(size.shape, _LEAST), np.zeros(size.shape)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        excludes = half_width(parts, np.exp(middle)) < size
        low, high = np.where(excludes, low, middle), np.where(excludes, middle, high)
    return np.where(size > 0, np.minimum(n_comparisons * np.exp(high), 1.0), 1.0)


def _quantile(counts: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quantiles of Student's t (1908) with counts - 1 degrees of freedom; of a single one, which has no variance, 1."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.maximum(counts - 1, 1), below))


def standard_deviations(parts: Parts) -> tuple[float, float, float]:
    """Standard deviations of one paired difference between seeds, between patients and of the rest.

    Estimated variances may be negative, which counts as 0 (Searle, Casella and McCulloch 1992, Variance Components);
    NaN: not known, with one seed or one patient.
    """
    n_seeds, n_patients = int(parts.n_seeds[..., 0]), int(parts.n_patients)
    seeds, rest, patients = float(parts.seeds[..., 0]), float(parts.rest[..., 0]), float(parts.patients)
    return (
        math.sqrt(max(seeds - rest, 0) * n_seeds) if n_seeds > 1 else math.nan,
        math.sqrt(max(patients - rest, 0) * n_patients) if n_patients > 1 else math.nan,
        math.sqrt(rest * n_seeds * n_patients) if min(n_seeds, n_patients) > 1 else math.nan,
    )


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
    return _means_of(d.T, np.asarray(patients, dtype=str)).T


def by_draw(d: np.ndarray, draws: Sequence[Hashable]) -> np.ndarray:
    """Mean over the seeds of each tuning draw: (n_seeds, n) to (n_draws, n), draws in sorted order.

    Seeds that share a draw of the tuning share its luck and are no independent draws of "this method, tuned".
    """
    return _means_of(np.asarray(d, dtype=float), np.asarray(draws))


def _means_of(rows: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Mean of the rows of each owner, owners sorted."""
    return np.stack([rows[owners == name].mean(axis=0) for name in np.unique(owners)])


class NotFiniteError(InputError):
    """Differences that are not finite, as of a perfect or a broken image."""


def finite_table(d: np.ndarray) -> np.ndarray:
    """Check a table (n_seeds, n_patients).

    Raises:
        InputError: It has no two axes, no entry, or a value that is not finite.
    """
    d = np.asarray(d, dtype=float)
    if d.ndim != 2 or not d.size:
        raise InputError(
            f"differences of shape {d.shape}; give a table (n_seeds, n_patients) with at least one of each"
        )
    if not np.isfinite(d).all():
        raise NotFiniteError(f"{(~np.isfinite(d)).sum()} of {d.size} differences are not finite; leave those runs out")
    return d


def checked_level(level: float) -> float:
    """Check a confidence level.

    Raises:
        InputError: It is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"confidence level {level}; it must be between 0 and 1, for example 0.95")
    return level


def what_is_sampled(n_seeds: int, n_patients: int) -> str:
    """Over what an interval can speak: BOTH, SEEDS or PATIENTS.

    What was not drawn anew is a fixed effect, and says nothing of others (Clark 1973, J Verbal Learning 12:335).

    Raises:
        InputError: Over nothing.
    """
    if max(n_seeds, n_patients) < 2:
        raise InputError("1 seed and 1 patient say too little; give 2 seeds or 2 patients")
    return SEEDS if n_patients == 1 else PATIENTS if n_seeds == 1 else BOTH


# ---- sign flips over paired seeds: are two methods alike on these patients? Stands beside a verdict, never decides

MAX_FLIPS = 2**14
_TIE = 1e-9  # statistics closer than this are equal: sums of the same numbers in another order


def sign_flip_p(d: ArrayLike, seed: int = 0) -> float:
    """Two-sided p value of the sign-flip test of Fisher (1935, The Design of Experiments, chapter III).

    If two methods are alike on these patients, the sign of each seed's mean difference is a coin's. All flips are tried
    up to 15 seeds (2^14 up to the sign of the whole, which changes nothing); above, 2^14 are drawn and the observed
    signs counted among them (Phipson and Smyth 2010).

    Args:
        d: Mean difference of each seed, (n_seeds,).
        seed: Seed of the drawn flips.

    Raises:
        InputError: Not a row of finite numbers.
    """
    values = np.asarray(d, dtype=float)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise InputError(f"differences of shape {values.shape}; give finite numbers, one of each seed")
    scale = np.abs(values).max() or 1.0
    sums = np.abs(_signs(len(values), seed) @ (values / scale))
    return float((sums >= sums[0] - _TIE).mean())


def _signs(n_seeds: int, seed: int) -> np.ndarray:
    """Flips (n_flips, n_seeds) of +1 and -1, one of each two that mirror each other; the first changes no sign."""
    n_flips = 2 ** max(n_seeds - 1, 0)
    if n_flips <= MAX_FLIPS:
        return 1.0 - 2.0 * ((np.arange(n_flips)[:, None] >> np.arange(n_seeds)) & 1)
    drawn = np.random.default_rng(seed).integers(2, size=(MAX_FLIPS + 1, n_seeds))
    drawn[0] = 0
    return 1.0 - 2.0 * drawn


# ---- where the variance of scores comes from: methods that share seeds and patients, and what pairing takes away

SOURCES = ("seeds", "patients", "method x seed", "method x patient", "seed x patient", "rest")


def variance_table(scores: np.ndarray) -> dict[str, Any]:
    """Variance components of methods, seeds and patients, crossed, from the mean squares of the three-way table.

    Methods are as they are, seeds and patients are drawn (the mixed model of Searle, Casella and McCulloch 1992,
    Variance Components). What seeds and patients have in common for all methods cancels in paired differences; what
    methods have of their own stays. Estimates below 0 count as 0.

    Args:
        scores: (n_methods, n_seeds, n_patients), two or more of each.

    Returns:
        `sd`: standard deviation by source; `correlation`: of two methods' scores over the seeds (means over patients)
        and over the patients (means over seeds), mean over all pairs of methods: how much pairing helps; NaN where a
        method has no spread.

    Raises:
        InputError: Another shape, or values that are not finite.
    """
    y = np.asarray(scores, dtype=float)
    if y.ndim != 3 or min(y.shape) < 2 or not np.isfinite(y).all():
        raise InputError(f"scores of shape {y.shape}; give finite (n_methods, n_seeds, n_patients), 2 or more of each")
    m, s, p = y.shape
    squares = _mean_squares(y)
    rest = squares["msp"]
    variances = {
        "seeds": (squares["s"] - squares["ms"] - squares["sp"] + rest) / (m * p),
        "patients": (squares["p"] - squares["mp"] - squares["sp"] + rest) / (m * s),
        "method x seed": (squares["ms"] - rest) / p,
        "method x patient": (squares["mp"] - rest) / s,
        "seed x patient": (squares["sp"] - rest) / m,
        "rest": rest,
    }
    correlation = {"seeds": _correlation(y.mean(axis=2)), "patients": _correlation(y.mean(axis=1))}
    return {"sd": {name: math.sqrt(max(variances[name], 0)) for name in SOURCES}, "correlation": correlation}


def _mean_squares(y: np.ndarray) -> dict[str, float]:
    """Mean square of each effect of a full three-way table, by the letters of its axes."""
    letters = {0: "m", 1: "s", 2: "p"}
    effects: dict[str, np.ndarray] = {"": y.mean(keepdims=True)}
    found = {}
    for size in (1, 2, 3):
        for axes in combinations(range(3), size):
            name = "".join(letters[axis] for axis in axes)
            mean = y.mean(axis=tuple(set(range(3)) - set(axes)), keepdims=True)
            effects[name] = mean - sum(e for other, e in effects.items() if set(other) < set(name))
            dof = math.prod(y.shape[axis] - 1 for axis in axes)
            found[name] = float(np.square(effects[name]).sum() * (y.size / effects[name].size) / dof)
    return found


def _correlation(rows: np.ndarray) -> float:
    """Mean correlation of every two rows (n_methods, n)."""
    if rows.shape[1] < 3 or (np.ptp(rows, axis=1) == 0).any():
        return math.nan
    pairs = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
    return float(pairs.mean())
