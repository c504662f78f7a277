"""The verdict on a difference: BETTER, WORSE, EQUIVALENT or UNDECIDED, read off its simultaneous interval alone."""

import math
from typing import NamedTuple

import numpy as np

from mrirecon.errors import InputError
from mrirecon.evaluation.stats.crossed import Parts, half_width
from mrirecon.tables.metrics import METRICS

BETTER, WORSE, EQUIVALENT, UNDECIDED = "BETTER", "WORSE", "EQUIVALENT", "UNDECIDED"
NO_VERDICT = "NO VERDICT"  # the runs say nothing about what was asked
HIGHER, LOWER = "higher", "lower"
LOSS = "loss"
# what the interval says of the size of a difference, beside the verdict
BY_MORE, SIZE_OPEN = "by more than the margin", "size open"
BETTER_BY_LESS, WORSE_BY_LESS = "better, by less than the margin", "worse, by less than the margin"
NOT_WORSE, NOT_BETTER = "not worse by more than the margin", "not better by more than the margin"


class Margin(NamedTuple):
    """Differences within `value`, in units of the metric, count as none."""

    value: float
    source: str  # in words: who set it, and when
    is_late: bool = False  # it was chosen when reading, with the results there to be seen


class Judged(NamedTuple):
    """Intervals of first minus second and what they say of the first, (...) each."""

    low: np.ndarray
    high: np.ndarray
    verdict: np.ndarray  # BETTER, WORSE, EQUIVALENT or UNDECIDED
    size: np.ndarray  # one of the words above, or empty


def judge(
    parts: Parts, better: str, margin: float | None = None, n_comparisons: int = 1, alpha: float = 0.05
) -> Judged:
    """Read verdicts off simultaneous intervals [L, U], turned so that positive is better; margin m:

    | interval | verdict |
    |---|---|
    | L > m | BETTER, by more than the margin |
    | 0 < L <= m < U | BETTER, size open |
    | within -m to m | EQUIVALENT; with 0 outside also better (worse), by less than the margin |
    | else | UNDECIDED; with L >= -m not worse by more than the margin |

    and mirrored for WORSE. Without a margin 0 alone decides: BETTER, WORSE or UNDECIDED. That methods are
    equivalent whose interval lies within the margins is the rule of Westlake (1972, J Pharm Sci 61:1340).

    Args:
        parts: Of first minus second.
        better: HIGHER or LOWER values of the metric are better.
        margin: In units of the metric; None: none was given.
        n_comparisons: Of the family.
        alpha: Chance of one or more wrong intervals in the family.
    """
    half = half_width(parts, alpha / n_comparisons)
    low, high = parts.mean - half, parts.mean + half
    worst, best = (low, high) if better == HIGHER else (-high, -low)
    is_better, is_worse = worst > 0, best < 0
    if margin is None:
        verdict = np.select([is_better, is_worse], [BETTER, WORSE], UNDECIDED)
        return Judged(low, high, verdict, np.full(verdict.shape, ""))
    is_equal = (worst >= -margin) & (best <= margin)
    verdict = np.select([is_equal, is_better, is_worse], [EQUIVALENT, BETTER, WORSE], UNDECIDED)
    sizes = {
        BETTER_BY_LESS: is_equal & is_better,
        WORSE_BY_LESS: is_equal & is_worse,
        "": is_equal,
        BY_MORE: (worst > margin) | (best < -margin),
        SIZE_OPEN: is_better | is_worse,
        NOT_WORSE: worst >= -margin,
        NOT_BETTER: best <= margin,
    }
    return Judged(low, high, verdict, np.select(list(sizes.values()), list(sizes), ""))


def require_margin(value: float, metric: str) -> None:
    """Refuse a margin that is none.

    Raises:
        InputError: It is not above 0.
    """
    if not 0 < value < math.inf:
        raise InputError(f"equivalence margin {value}; it must be above 0 in units of {metric}, or None")


def better_is(metric: str) -> str:
    """Return which values of a metric, or of the loss, are better: HIGHER or LOWER; `unknown` of anything else."""
    if metric in METRICS:
        return HIGHER if METRICS[metric].higher_is_better else LOWER
    return LOWER if metric == LOSS else "unknown"


def monitors() -> list[str]:
    """Return the names that a training can be watched by: the metrics, and the loss."""
    return [*METRICS, LOSS]


def goodness(metric: str, value: float) -> float:
    """A value of one of `monitors`, signed so that higher is better; -inf, the worst, if it is not finite."""
    if not math.isfinite(value):
        return -math.inf
    return value if better_is(metric) == HIGHER else -value
