"""Means and bands over seeds. No torch here."""

import math
from collections.abc import Sequence

import numpy as np

BAND = (10.0, 90.0)  # percentiles of a band: the middle four fifths of the seeds


def mean_and_interval(values: Sequence[float], level: float = 0.95) -> dict[str, float]:
    """Mean over seeds with its Student t interval; NaN where there are too few values.

    Args:
        values: One of each seed; those that are not finite are left out.
        level: Of the interval.
    """
    from scipy.stats import t

    finite = np.array([v for v in values if math.isfinite(v)], float)
    if not len(finite):
        return {"mean": math.nan, "low": math.nan, "high": math.nan}
    mean = float(finite.mean())
    if len(finite) < 2:
        return {"mean": mean, "low": math.nan, "high": math.nan}
    half = float(t.ppf((1 + level) / 2, len(finite) - 1) * finite.std(ddof=1) / math.sqrt(len(finite)))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def band(columns: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Median and the 10th and 90th percentile of each column; columns may differ in length.

    Args:
        columns: At each step the values of the seeds that have one.
    """
    finite = [[v for v in column if math.isfinite(v)] for column in columns]
    rows = [np.percentile(c, [50.0, *BAND]).tolist() if c else [math.nan] * 3 for c in finite]
    return {name: [row[i] for row in rows] for i, name in enumerate(("median", "low", "high"))}
