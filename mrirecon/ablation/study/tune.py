"""The tuning of one cell: which points are tried, which wins, where the range ends. No torch here."""

import math
from collections.abc import Mapping, Sequence
from functools import cache

from mrirecon.ablation.study.grid import Tuning
from mrirecon.ablation.study.records import RunResult

Ranges = Mapping[str, tuple[float, float]]
_EDGE = 1 / 8  # of a range on a logarithmic scale
_STEP = 2.0  # between learning rates of a sweep


def trial_values(ranges: Ranges, n_trials: int, first_seed: int, repeat: int) -> list[dict[str, float]]:
    """The points that a cell tries: scrambled Sobol numbers, the same for every cell, on logarithmic axes.

    Twice as many trials begin with the same ones.
    """
    keys = list(ranges)
    points = _sobol(len(keys), int(math.log2(n_trials)), first_seed + repeat)
    return [{key: _between(ranges[key], u) for key, u in zip(keys, point, strict=True)} for point in points]


@cache
def _sobol(n_dimensions: int, log2_n: int, seed: int) -> list[list[float]]:
    from scipy.stats import qmc

    points: list[list[float]] = qmc.Sobol(n_dimensions, scramble=True, rng=seed).random_base2(log2_n).tolist()
    return points


def _between(bounds: tuple[float, float], share: float) -> float:
    low, high = bounds
    return float(f"{low * (high / low) ** share:.6g}")  # six digits are read and compared everywhere alike


def winner(trials: Sequence[RunResult], objective: str) -> RunResult | None:
    """The trial with the least loss; of equals the first; None when all diverged."""
    best = min(trials, key=lambda r: (r.loss(objective), r.widened, r.trial), default=None)
    return best if best is not None and math.isfinite(best.loss(objective)) else None


def edge(value: float, bounds: tuple[float, float]) -> str:
    """`low` or `high` for a value in the outer eighth of its range on a logarithmic scale, else empty."""
    low, high = bounds
    share = math.log(value / low) / math.log(high / low)
    return "low" if share < _EDGE else "high" if share > 1 - _EDGE else ""


def widened(ranges: Ranges, best: Mapping[str, float]) -> dict[str, tuple[float, float]] | None:
    """The ranges with half their width more on the side where the best trial lies; None if it lies inside."""
    wider = {}
    for key, (low, high) in ranges.items():
        half = math.sqrt(high / low)
        side = edge(best[key], (low, high))
        wider[key] = (low / half if side == "low" else low, high * half if side == "high" else high)
    return wider if wider != dict(ranges) else None


def sweep_rates(lr: float, n: int) -> list[float]:
    """`n` learning rates around `lr`, each twice the one before: a third below it, the others above."""
    below = n // 3
    factors = [*range(-below, 0), *range(1, n - below + 1)]
    return [float(f"{lr * _STEP**k:.6g}") for k in factors]


def searched(tuning: Tuning, cell: str, trials: Sequence[RunResult], objective: str) -> dict[str, tuple[float, float]]:
    """The ranges that a cell was searched over: the declared ones, or the wider ones where it has such trials."""
    ranges = dict(tuning.spaces[cell])
    if not any(trial.widened for trial in trials):
        return ranges
    first = winner([trial for trial in trials if not trial.widened], objective)
    return (widened(ranges, first.values) if first else None) or ranges
