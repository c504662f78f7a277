"""Intervals over patients: a patient's volumes and masks belong together and are resampled together."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mrirecon.errors import InputError

MIN_PATIENTS = 5  # fewer say too little about patients to give an interval
N_RESAMPLES = 9999


class Interval(NamedTuple):
    """Bounds of a confidence interval of a mean."""

    low: float
    high: float


def bootstrap_ci(
    values: Sequence[float],
    patients: Sequence[str],
    level: float = 0.95,
    seed: int = 0,
    weights: Sequence[float] | None = None,
) -> Interval | None:
    """Confidence interval of the mean of `values`, resampling patients with all of their values.

    BCa bootstrap (Efron 1987) of the ratio (sum of values / number of values) over patients, by
    `scipy.stats.bootstrap`; the percentile interval where BCa has none. For a paired comparison give the
    differences as `values`.

    Args:
        values: One number per volume (and mask draw).
        patients: Whose it is.
        level: Confidence level, between 0 and 1.
        seed: Seed of the resampling.
        weights: Of each value in the mean, its number of slices for example; None: all alike.

    Returns:
        The interval, or None with fewer than 5 patients or with a value that is not finite.

    Raises:
        InputError: Lists of different lengths or a level outside of 0 to 1.
    """
    if len(values) != len(patients):
        raise InputError(f"{len(values)} values for {len(patients)} patients; give each value its patient")
    if not 0 < level < 1:
        raise InputError(f"confidence level {level}; it must be between 0 and 1, for example 0.95")
    sums, counts = _by_patient(values, patients, [1.0] * len(values) if weights is None else weights)
    if len(sums) < MIN_PATIENTS or not np.isfinite(sums).all():
        return None
    interval = _bootstrap(sums, counts, level, seed, "BCa")
    if not all(map(math.isfinite, interval)):
        interval = _bootstrap(sums, counts, level, seed, "percentile")
    return interval


def _by_patient(
    values: Sequence[float], patients: Sequence[str], weights: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted sum and weight of each patient, (n_patients,) each, sorted: the order of rows does not matter."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for value, patient, weight in zip(values, patients, weights, strict=True):
        groups.setdefault(patient, []).append((float(weight) * float(value), float(weight)))
    columns = [[math.fsum(part) for part in zip(*groups[name], strict=True)] for name in sorted(groups)]
    sums, counts = np.array(columns).reshape(-1, 2).T
    return sums, counts


def _bootstrap(sums: np.ndarray, counts: np.ndarray, level: float, seed: int, method: str) -> Interval:
    """Bootstrap the ratio of sums to counts, (n_patients,) each."""
    from scipy.stats import bootstrap

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # equal values: BCa is undefined and says so
        result = bootstrap(
            (sums, counts),
            _ratio_of_sums,
            paired=True,
            vectorized=True,
            confidence_level=level,
            n_resamples=N_RESAMPLES,
            batch=1000,  # bounds the memory
            method=method,
            rng=np.random.default_rng(seed),
        )
    low, high = result.confidence_interval
    return Interval(float(low), float(high))


def _ratio_of_sums(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
    """Divide sums by counts, (..., n_patients) to (...)."""
    return sums.sum(axis=axis) / counts.sum(axis=axis)
