"""Targets of validation SSIM and when runs reach them. No torch here."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from mrirecon.ablation.findings.rerun_scores import reruns_of
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import Point, RunResult
from mrirecon.evaluation.stats import restricted_interval, restricted_mean

Target = dict[str, float]


def make_targets(grid: Grid, results: Sequence[RunResult], zero_filled_val_ssim: float) -> list[Target]:
    """The targets of a study: shares of the way from zero-filled to the reference cell's median final SSIM.

    Both are of validation, as the curves are. Reruns that diverged are no part of the median.

    Returns:
        `share` and `ssim` of each target; empty until all reruns of the reference are in, and where the reference is
        no better than zero-filled.
    """
    own = [r for r in results if r.cell == grid.reference]
    reruns = reruns_of(own, grid.tuning.objectives[0])
    ends = [
        r.points[-1].scores["ssim"]
        for r in reruns
        if math.isfinite(r.final_loss) and math.isfinite(r.points[-1].scores["ssim"])
    ]
    if {r.seed for r in reruns} < set(grid.seeds) or not ends:
        return []
    gap = median(ends) - zero_filled_val_ssim
    if not gap > 0:
        return []
    return [{"share": share, "ssim": zero_filled_val_ssim + share * gap} for share in grid.targets]


def crossing(points: Sequence[Point], ssim: float) -> int | None:
    """The step of the first validation from which on a run counts as having reached `ssim`; None: never.

    The first one at which the running median of three validations (its neighbours and itself; the first and the last
    stand for themselves) is at least `ssim`, so that one lucky validation between two others does not count.
    """
    values = [p.scores["ssim"] if math.isfinite(p.scores["ssim"]) else -math.inf for p in points]
    for point, smooth in zip(points, running_median(values), strict=True):
        if smooth >= ssim:
            return point.step
    return None


def running_median(values: Sequence[float]) -> list[float]:
    """Median of each value and its two neighbours, ends as they are (Tukey 1977)."""
    inner = [median(triple) for triple in zip(values, values[1:], values[2:], strict=False)]
    return [*values[:1], *inner, *values[1:][-1:]]


def times_to(targets: Sequence[Target], reruns: Sequence[RunResult], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """When the reruns of a cell reach each target: restricted means with 95 % intervals over seeds.

    A run that does not reach a target counts with its horizon, the steps of the run; so does one that diverged, even
    after it was there. Samples are slices that were trained on; seconds are steps times the median time of a step in
    training alone, so that evaluation and a busy machine do not count.

    Args:
        targets: See `make_targets`.
        reruns: Of one cell and one objective.
        seeds: Of the study: the order of `per_seed`.
    """
    return [_time_to(target, reruns, seeds) for target in targets] if reruns else []


def reached(run: RunResult, target: Target) -> int | None:
    """The step at which a run reaches a target; a run that diverged never does."""
    return None if run.diverged_at is not None else crossing(run.points, target["ssim"])


def _time_to(target: Target, reruns: Sequence[RunResult], seeds: Sequence[int]) -> dict[str, Any]:
    steps_of = {run.seed: reached(run, target) for run in reruns}
    horizon = max(run.n_steps for run in reruns)
    steps = _restricted(list(steps_of.values()), horizon)
    return {
        "share": target["share"],
        "n_reached": sum(step is not None for step in steps_of.values()),
        "n_seeds": len(reruns),
        "horizon": horizon,
        "steps": steps,
        "samples": _times(steps, median(run.slices_per_step for run in reruns)),
        "seconds": _times(steps, step_seconds(reruns)),
        "per_seed": [steps_of.get(seed) for seed in seeds],
    }


def _restricted(times: Sequence[int | None], horizon: int) -> dict[str, float]:
    """Restricted mean; without an interval where no run shows how the times spread."""
    shown = any(time is not None for time in times)
    low, high = (restricted_interval(times, horizon) if shown else None) or (math.nan, math.nan)
    return {"mean": restricted_mean(times, horizon), "low": low, "high": high}


def step_seconds(runs: Sequence[RunResult]) -> float:
    """Median over runs of the time of a step; NaN where none was measured."""
    measured = [r.timing.step_seconds for r in runs if math.isfinite(r.timing.step_seconds)]
    return float(np.median(measured)) if measured else math.nan


def _times(interval: dict[str, float], factor: float) -> dict[str, float]:
    return {name: value * factor for name, value in interval.items()}
