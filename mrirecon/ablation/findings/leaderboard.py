"""What a cell reached in its reruns: means with intervals, and which cell leads."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mrirecon.ablation.findings.rerun_scores import RerunScores
from mrirecon.ablation.study.records import RunResult
from mrirecon.errors import InputError
from mrirecon.evaluation.stats import by_patient, crossed_effect, minimum_detectable_effect, sign_flip_max_t


def final_scores(scores: Mapping[str, RerunScores], cell: str) -> dict[str, dict[str, float]] | None:
    """Mean test scores of a cell by metric, with 95 % intervals over seeds and patients; None before a rerun.

    `sd_seeds` is the standard deviation over seeds of the mean over volumes. The interval (Satterthwaite 1946, see
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


class Gap(NamedTuple):
    """Lead of the cell with the highest mean over another, with its interval."""

    cell: str
    mean: float
    low: float  # of the interval that holds for all pairs of cells at once
    high: float
    is_distinct: bool


def leader(scores: RerunScores, alpha: float = 0.05) -> tuple[str, list[Gap]] | None:
    """The cell with the highest mean, and its distance to the others, nearest first.

    The leader is chosen by the same data, so the distances are tested among all pairs of cells: sign flips over seeds
    with step-down max-T adjustment (Westfall and Young 1993), and intervals at 1 - alpha / number of pairs. A pair
    is distinct when both say so and its distance is not below what the study can detect, as in every verdict. Only
    cells with all of their reruns take part.

    Args:
        scores: A metric of which more is better.
        alpha: Of all pairs together.

    Returns:
        None with fewer than two such cells, or too few seeds and patients for an interval.
    """
    cells = [cell for cell in scores.values if scores.present(cell).all()]
    if len(cells) < 2 or not scores.volumes:
        return None
    tables = {cell: by_patient(scores.values[cell], scores.patients) for cell in cells}
    pairs = list(combinations(sorted(cells, key=lambda cell: (-tables[cell].mean(), cell)), 2))
    differences = np.stack([tables[a] - tables[b] for a, b in pairs])
    per_seed = differences.mean(axis=2) if len(scores.seeds) > 1 else differences[:, 0]
    p = sign_flip_max_t(per_seed).p_family
    try:
        gaps = [
            _gap(pairs[i][1], differences[i], alpha / len(pairs), p[i] <= alpha) for i in range(len(cells) - 1)
        ]  # the leader's pairs come first
    except InputError:
        return None
    return pairs[0][0], gaps


def _final(scores: RerunScores, cell: str) -> dict[str, float]:
    rows = scores.values[cell][scores.present(cell)]
    means = rows.mean(axis=1)
    sd = float(means.std(ddof=1)) if len(means) > 1 else math.nan
    try:
        effect = crossed_effect(by_patient(rows, scores.patients))
    except InputError:  # one seed and few patients, or no volume that all have
        mean = float(means.mean()) if rows.size else math.nan
        return {"mean": mean, "low": math.nan, "high": math.nan, "sd_seeds": sd}
    return {"mean": effect.mean, "low": effect.low, "high": effect.high, "sd_seeds": sd}


def _gap(cell: str, difference: np.ndarray, alpha: float, is_significant: bool) -> Gap:
    effect = crossed_effect(difference)
    low, high = effect.interval(1 - alpha)
    is_detectable = effect.mean >= minimum_detectable_effect(effect, 1 - alpha)
    return Gap(cell, effect.mean, low, high, bool(is_significant and low > 0 and is_detectable))
