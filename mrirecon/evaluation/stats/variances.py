"""Where the variance of scores comes from: methods that share seeds and patients, and what pairing takes away."""

import math
from itertools import combinations
from typing import Any

import numpy as np

from mrirecon.errors import InputError

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
