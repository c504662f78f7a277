"""The scores of each cell in its reruns: means with intervals, and which cell leads."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrirecon.ablation.findings.rerun_scores import RerunScores
from mrirecon.ablation.study.records import RunResult
from mrirecon.errors import InputError
from mrirecon.evaluation.stats import (
    Comparison,
    Margin,
    by_draw,
    by_patient,
    compare_family,
    crossed_effect,
    exact_share,
    sample,
)


def final_scores(scores: Mapping[str, RerunScores], cell: str) -> dict[str, dict[str, float]] | None:
    """Mean test scores of a cell by metric, with 95 % intervals over seeds and patients; None before a rerun.

    `sd_seeds` is the standard deviation over seeds of the mean over volumes. The interval (see
    `crossed_effect`) is of the score itself and as wide as volumes differ; whether two cells differ is for their
    paired differences to say.

    Args:
        scores: By metric.
        cell: Its name.
    """
    known = {metric: _final(of_metric, cell) for metric, of_metric in scores.items() if cell in of_metric.values}
    return known or None


def validation_scores(reruns: Sequence[RunResult]) -> dict[str, dict[str, float]]:
    """Mean best validation SSIM and area under the validation loss, with t intervals (Student 1908) over seeds."""
    finished = [run for run in reruns if run.diverged_at is None and run.points]
    return {
        "best_ssim": mean_and_interval([_best_ssim(run) for run in finished]),
        "area": mean_and_interval([run.area for run in finished]),
    }


def _best_ssim(run: RunResult) -> float:
    return max((p.scores["ssim"] for p in run.points if math.isfinite(p.scores["ssim"])), default=math.nan)


def mean_and_interval(values: Sequence[float], level: float = 0.95) -> dict[str, float]:
    """Return the mean over seeds with its interval of Student's t (1908); NaN where there are too few values.

    Args:
        values: One of each seed; those that are not finite are left out.
        level: Confidence level of the interval.
    """
    from scipy.stats import t

    finite = np.array([v for v in values if math.isfinite(v)], float)
    mean = float(finite.mean()) if len(finite) else math.nan
    if len(finite) < 2:
        return {"mean": mean, "low": math.nan, "high": math.nan}
    # not t.interval, which has no interval for equal values
    half = float(t.ppf((1 + level) / 2, len(finite) - 1) * finite.std(ddof=1) / math.sqrt(len(finite)))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def volumes_of(scores: RerunScores, cell: str) -> dict[str, Any] | None:
    """Mean SSIM over seeds of each test volume; None before a rerun."""
    if cell not in scores.values:
        return None
    rows = scores.values[cell][scores.present(cell)]
    return {"names": list(scores.volumes), "ssim": rows.mean(axis=0).tolist()}


def divergence(reruns: Sequence[RunResult], level: float = 0.95) -> dict[str, float]:
    """Count the diverged reruns of a cell, and give the interval of their share (Clopper and Pearson 1934)."""
    n_diverged = sum(run.diverged_at is not None for run in reruns)
    low, high = exact_share(n_diverged, len(reruns), level)
    return {"n": n_diverged, "of": len(reruns), "low": low, "high": high}


def leader(
    scores: RerunScores, margin: Margin | None = None, alpha: float = 0.05
) -> tuple[str, list[Comparison]] | None:
    """The cell with the highest mean, and how far it is ahead of the others, nearest first.

    The leader is chosen by the same data, so its comparisons stand in the family of all pairs of cells, a secondary
    one. Only cells with all of their reruns take part; a rerun that diverged counts as the zero-filled image, and where
    the grid excludes it its cell takes no part.

    Args:
        scores: A metric of which more is better.
        margin: Of equivalence.
        alpha: Of all pairs together.

    Returns:
        None with fewer than two such cells, or too few seeds and patients for an interval.
    """
    survivors = scores.survivors(scores.values)
    cells = [cell for cell in scores.values if scores.present(cell).all() and cell not in survivors]
    if len(cells) < 2 or not scores.volumes or scores.patients is None:
        return None
    means = {cell: by_patient(scores.values[cell], scores.patients).mean() for cell in cells}
    first, *others = sorted(cells, key=lambda cell: (-means[cell], cell))
    try:
        samples = [
            sample(other, [scores.side(first, 1.0), scores.side(other, -1.0)], scores.patients) for other in others
        ]
    except InputError:
        return None
    n_pairs = len(cells) * (len(cells) - 1) // 2
    ahead = compare_family(
        samples, metric=scores.metric, better=scores.better, margin=margin, alpha=alpha, n_comparisons=n_pairs
    )
    return first, ahead


def _final(scores: RerunScores, cell: str) -> dict[str, float]:
    rows = scores.values[cell][scores.present(cell)]
    means = rows.mean(axis=1)
    sd = float(means.std(ddof=1)) if len(means) > 1 else math.nan
    side = scores.side(cell, 1.0)
    try:
        table = by_patient(rows, scores.patients or [""] * rows.shape[1])
        effect = crossed_effect(table if side.draws is None else by_draw(table, side.draws))
    except InputError:  # one seed and one patient, or no volume that all have
        mean = float(means.mean()) if rows.size else math.nan
        return {"mean": mean, "low": math.nan, "high": math.nan, "sd_seeds": sd}
    return {"mean": effect.mean, "low": effect.low, "high": effect.high, "sd_seeds": sd}
