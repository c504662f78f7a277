"""Decide a comparison, BETTER, WORSE, EQUIVALENT or INCONCLUSIVE, and estimate what would settle it."""

import math
from collections.abc import Sequence

from mrirecon.evaluation.stats.crossed import VOLUMES, Effect
from mrirecon.evaluation.stats.flips import decidable_seeds
from mrirecon.evaluation.stats.patients import Interval
from mrirecon.evaluation.stats.power import seeds_needed
from mrirecon.tables.metrics import METRICS

BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = "BETTER", "WORSE", "EQUIVALENT", "INCONCLUSIVE"
HIGHER, LOWER = "higher", "lower"
LOSS = "loss"
_POWER_ABOVE_DETECTABLE = 0.954  # a difference found with this power lies above the detectable one in 80 % of studies
_POWER_EACH_SIDE = 0.9  # of two one-sided tests: in 80 % of studies both succeed, in the middle of the margin


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


def decide(
    effect: Effect,
    intervals: Sequence[Interval],
    *,
    better: str,
    p_family: float,
    tost_p: float | None,
    mde: float,
    alpha: float,
) -> str:
    """BETTER, WORSE, EQUIVALENT or INCONCLUSIVE, of the first method.

    EQUIVALENT comes first: a difference within the margin is none, however sure its sign. A difference needs all of:
    no smaller than the minimum detectable effect, adjusted p at most `alpha`, and 0 outside of every interval.

    Args:
        effect: First minus second.
        intervals: All that have to exclude 0.
        better: HIGHER or LOWER values are better.
        p_family: Adjusted p value.
        tost_p: P value of equivalence (Schuirmann 1987), None where no margin was stated.
        mde: Minimum detectable effect.
        alpha: Level of the tests.
    """
    if tost_p is not None and tost_p <= alpha:
        return EQUIVALENT
    excluded = all(low > 0 or high < 0 for low, high in intervals)
    if abs(effect.mean) < mde or p_family > alpha or not excluded:
        return INCONCLUSIVE
    return BETTER if (effect.mean > 0) == (better == HIGHER) else WORSE


def seeds_to_settle(effect: Effect, margin: float | None, *, level: float, alpha: float) -> int | None:
    """Estimate the seeds that settle an inconclusive comparison in 80 % of studies, if it is as large as it looks.

    Either `decide` calls the difference, with signs enough to reach `alpha`, or it calls it within the margin (two
    one-sided tests, Schuirmann 1987); the smaller number counts, and it is always more than there are. None: more
    seeds alone cannot.
    """
    if effect.generalizes == VOLUMES:
        return None
    found = seeds_needed(effect, effect.mean, level, _POWER_ABOVE_DETECTABLE)
    numbers = [] if found is None else [max(found, decidable_seeds(alpha))]
    if margin is not None and margin > abs(effect.mean):
        # two one-sided tests at alpha: the interval at 1 - 2 alpha lies within the margin
        equal = seeds_needed(effect, margin - abs(effect.mean), 1 - 2 * alpha, _POWER_EACH_SIDE)
        numbers += [] if equal is None else [equal]
    return max(min(numbers), effect.n_seeds + 1) if numbers else None
