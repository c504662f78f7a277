"""Numbers that the claims compare: of one run, of two runs, of the learning rates that a cell tried."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrirecon.ablation.claims.evidence import LR, Limits, Sources
from mrirecon.ablation.findings.learning_curves import reached
from mrirecon.ablation.study.records import RunResult
from mrirecon.evaluation.stats import restricted

_LEAST_VALIDATIONS = 4  # in the second half of a run, for two second differences
_WINDOW = math.log(8)  # around the best rate, for the parabola through the losses
_LEAST_RATES = 4


def bounce(run: RunResult) -> float:
    """Standard deviation of validation SSIM from one validation to the next, over the second half of the run.

    Root mean square of the second differences / sqrt(6): the noise without the trend (Gasser, Sroka and
    Jennen-Steinmetz 1986, Biometrika 73:625). NaN where the half has fewer than 4 validations.
    """
    late = [point.scores["ssim"] for point in run.points if 2 * point.step >= run.n_steps]
    if len(late) < _LEAST_VALIDATIONS:
        return math.nan
    return float(np.sqrt(np.mean(np.diff(late, 2) ** 2) / 6))


def log_bounce_ratio(first: RunResult, second: RunResult, _sources: Sources) -> float:
    """Ratio of the `bounce` (Gasser et al. 1986) of the first run to that of the second, in natural logarithm."""
    return _log_ratio(bounce(first), bounce(second))


def log_area_ratio(first: RunResult, second: RunResult, _sources: Sources) -> float:
    """Mean validation loss over the whole run, the first's over the second's, in natural logarithm."""
    return _log_ratio(first.area, second.area)


def log_steps_ratio(first: RunResult, second: RunResult, sources: Sources) -> float:
    """Steps to the lowest target, the first's over the second's, in natural logarithm; missed: the whole run.

    That is the restricted time of Royston and Parmar (2013).
    """
    if not sources.targets or math.isnan(sources.targets[0]["ssim"]):
        return math.nan
    steps = [reached(run, sources.targets[0]) for run in (first, second)]
    return _log_ratio(*map(float, restricted(steps, min(first.n_steps, second.n_steps))))


def log_matched_loss_ratio(first: RunResult, second: RunResult, _sources: Sources) -> float:
    """Validation loss at the lowest training loss that both runs reach, first over second, in natural logarithm.

    Training loss: mean over the steps since the last validation, and its running minimum. Between two validations the
    validation loss is taken as a straight line in the training loss.
    """
    curves = [_val_of_train(run) for run in (first, second)]
    if any(len(train) == 0 for train, _ in curves):
        return math.nan
    level = max(float(train[-1]) for train, _ in curves)
    if any(level > train[0] for train, _ in curves):
        return math.nan
    return _log_ratio(*(float(np.interp(-level, -train, val)) for train, val in curves))


def best_rate(tried: Sequence[RunResult]) -> float:
    """Logarithm of the learning rate with the least loss: the vertex of a parabola in the logarithm of the rate.

    Through the losses of rates within a factor of 8 of the best one that was tried, so that the noise of single trials
    and their spacing count less (a response surface of degree 2; Box and Wilson 1951). The best tried rate itself where
    the parabola has no minimum within them.
    """
    finite = [run for run in tried if math.isfinite(run.final_loss)]
    if not finite:
        return math.nan
    best = min(finite, key=lambda run: (run.final_loss, run.values[LR]))
    centre = math.log(best.values[LR])
    near = [run for run in finite if abs(math.log(run.values[LR]) - centre) <= _WINDOW]
    x = np.array([math.log(run.values[LR]) - centre for run in near])
    if len(np.unique(x)) < _LEAST_RATES:
        return centre
    curvature, slope, _ = np.polyfit(x, [run.final_loss for run in near], 2)
    vertex = -slope / (2 * curvature) if curvature > 0 else math.inf
    return centre + float(vertex) if x.min() <= vertex <= x.max() else centre


def failing_rate(tried: Sequence[RunResult], sources: Sources) -> Limits:
    """Logarithm of the rate from which on a cell fails: between the last that works and the first above the best that
    does not (infinite: none failed)."""
    works = [run for run in tried if not sources.has_failed(run)]
    if not works:
        return Limits(math.nan, math.nan)
    best = min(works, key=lambda run: run.final_loss).values[LR]
    first = min(
        (run.values[LR] for run in tried if sources.has_failed(run) and run.values[LR] > best), default=math.inf
    )
    last = max(run.values[LR] for run in works if run.values[LR] < first)
    return Limits(math.log(last), math.log(first))


def bounce_slope(tried: Sequence[RunResult], sources: Sources) -> float:
    """Slope of log `bounce` (Gasser et al. 1986) over log rate; NaN below 3 rates.

    The least squares line through the rates from half the best one up to the last that works.
    """
    works = [run for run in tried if not sources.has_failed(run) and bounce(run) > 0]
    if not works:
        return math.nan
    least = math.log(min(works, key=lambda run: run.final_loss).values[LR]) - math.log(2.01)
    points = [(math.log(run.values[LR]), math.log(bounce(run))) for run in works]
    points = [point for point in points if point[0] >= least]
    if len({x for x, _ in points}) < 3:
        return math.nan
    return float(np.polyfit([x for x, _ in points], [y for _, y in points], 1)[0])


def state_copies(study: Mapping[str, Any]) -> dict[str, float]:
    """Optimizer state of each cell that ran, in copies of the float32 parameters."""
    return {
        cell["cell"]: cell["optimizer_bytes"] / (4 * cell["n_parameters"])
        for cell in study.get("cells") or []
        if cell["n_parameters"]
    }


def trials_needed(cell: Mapping[str, Any], share: float = 0.01) -> int | None:
    """Trials after which the expected best loss is within a share of the best of all; None: no trials.

    Expected best loss of k trials: after Dodge et al. 2019, but without replacement; see `best_of_k`.
    """
    curve = cell["tuning"]["best_of_k"]
    values = [loss for _, loss in curve if loss is not None]
    if not values or len(values) < len(curve):
        return None
    return next(int(k) for k, loss in curve if loss <= values[-1] * (1 + share))


def _val_of_train(run: RunResult) -> tuple[np.ndarray, np.ndarray]:
    """Training losses, falling, and the validation loss at each."""
    rows: list[tuple[float, float]] = []
    before = 0
    for point in run.points:
        window = [trace.train_loss for trace in run.traces if before < trace.step <= point.step]
        before = point.step
        if window and (not rows or np.mean(window) < rows[-1][0]):
            rows.append((float(np.mean(window)), point.val_loss))
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def _log_ratio(first: float, second: float) -> float:
    return math.log(first / second) if first > 0 and second > 0 else math.nan
