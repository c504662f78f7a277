"""The curves of reruns: bands over seeds, targets of validation SSIM, when runs reach them, which cells are faster."""

import math
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from statistics import median
from typing import Any

import numpy as np

from mrirecon.ablation.findings.contrasts import ALPHA, Family, decide, families
from mrirecon.ablation.findings.rerun_scores import RerunScores, by_cell, draws_of, reruns_of
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import Point, RunResult, Trace
from mrirecon.evaluation.stats import LOWER, restricted, restricted_interval, restricted_mean

Row = Point | Trace
Value = Callable[[Any], float]
Target = dict[str, float]

STEPS = "steps"  # the metric of comparisons of speed
BAND = (10.0, 90.0)  # percentiles of a band: the middle four fifths of the seeds
_TRACES = ("grad_norm", "update_ratio", "train_loss")


def learning_curves(reruns: Sequence[RunResult]) -> dict[str, Any] | None:
    """Bands of validation SSIM and loss, gradient norm, update ratio and training loss.

    A run that diverged is part of them up to where it did: later steps are of the runs that are left.

    Returns:
        `steps` with `ssim` and `val_loss`, `trace_steps` with `grad_norm`, `update_ratio` and `train_loss`, each
        `median`, `low`, `high`; None without reruns.
    """
    if not reruns:
        return None
    of_points: dict[str, Value] = {"ssim": lambda p: p.scores["ssim"], "val_loss": attrgetter("val_loss")}
    steps, validations = _bands(reruns, lambda r: r.points, of_points)
    trace_steps, traces = _bands(reruns, lambda r: r.traces, {name: attrgetter(name) for name in _TRACES})
    return {"steps": steps, **validations, "trace_steps": trace_steps, **traces}


def _bands(
    reruns: Sequence[RunResult],
    rows: Callable[[RunResult], Sequence[Row]],
    values: Mapping[str, Value],
) -> tuple[list[int], dict[str, dict[str, list[float]]]]:
    at: dict[int, list[Row]] = {}
    for run in reruns:
        for row in rows(run):
            at.setdefault(row.step, []).append(row)
    steps = sorted(at)
    return steps, {name: band([[value(row) for row in at[step]] for step in steps]) for name, value in values.items()}


def band(columns: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Return the median and the 10th and 90th percentile of each column; columns may differ in length.

    Percentiles are numpy's, of type 7 of Hyndman and Fan (1996).

    Args:
        columns: At each step the values of the seeds that have one; those that are not finite are left out.
    """
    finite = [[v for v in column if math.isfinite(v)] for column in columns]
    rows = [np.percentile(c, [50.0, *BAND]).tolist() if c else [math.nan] * 3 for c in finite]
    return {name: [row[i] for row in rows] for i, name in enumerate(("median", "low", "high"))}


def make_targets(grid: Grid, results: Sequence[RunResult], zero_filled_val_ssim: float) -> list[Target]:
    """The targets of a study: shares of the way from zero-filled to the reference cell's median final SSIM.

    Both are of validation, as the curves are. Reruns that diverged are no part of the median. AlgoPerf's targets (Dahl
    et al. 2023) come from tuned references, too.

    Returns:
        `share` and `ssim` of each target; empty until all reruns of the reference are in, and where the reference is
        no better than zero-filled.
    """
    gap = reference_gap(grid, results, zero_filled_val_ssim)
    return [{"share": share, "ssim": zero_filled_val_ssim + share * gap} for share in grid.targets] if gap > 0 else []


def reference_gap(grid: Grid, results: Sequence[RunResult], zero_filled_val_ssim: float) -> float:
    """From zero-filled to the reference cell's median final SSIM, both of validation; NaN before all its reruns."""
    own = [r for r in results if r.cell == grid.reference]
    reruns = reruns_of(own, grid.tuning.objectives[0])
    ends = [
        r.points[-1].scores["ssim"]
        for r in reruns
        if math.isfinite(r.final_loss) and math.isfinite(r.points[-1].scores["ssim"])
    ]
    if {r.seed for r in reruns} < set(grid.seeds) or not ends:
        return math.nan
    return median(ends) - zero_filled_val_ssim


def crossing(points: Sequence[Point], ssim: float) -> int | None:
    """The step of the first validation from which on a run counts as having reached `ssim`; None: never.

    The first one at which the running median of three validations (Tukey 1977; its neighbours and itself; the first and
    the last stand for themselves) is at least `ssim`, so that one lucky validation between two others does not count.
    """
    values = [p.scores["ssim"] if math.isfinite(p.scores["ssim"]) else -math.inf for p in points]
    for point, smooth in zip(points, running_median(values), strict=True):
        if smooth >= ssim:
            return point.step
    return None


def running_median(values: Sequence[float]) -> list[float]:
    """Return the median of each value and its two neighbours, ends as they are (Tukey 1977)."""
    from scipy.ndimage import median_filter  # nearest: an end is its own second neighbour

    smooth: list[float] = median_filter(np.asarray(values, float), 3, mode="nearest").tolist() if values else []
    return smooth


def times_to(targets: Sequence[Target], reruns: Sequence[RunResult], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Restricted mean times (Royston and Parmar 2013) of a cell's reruns to each target, 95 % intervals over seeds.

    A run that does not reach a target counts with its horizon, the steps of the run; so does one that diverged, even
    after it was there. Samples are slices that were trained on; seconds are steps times the median time of a step in
    training alone, so that evaluation and a busy machine do not count.

    Args:
        targets: See `make_targets`.
        reruns: Of one cell and one objective.
        seeds: Of the study: the order of `per_seed`.
    """
    return [_time_to(target, reruns, seeds) for target in targets] if reruns else []


def reached(run: RunResult, target: Mapping[str, float]) -> int | None:
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


def decide_steps(
    grid: Grid,
    results: Sequence[RunResult],
    target: Target,
    objective: str,
    conditional: str,
    *,
    alpha: float = ALPHA,
    refused: str = "",
) -> dict[str, Any]:
    """Decide the family of every cell against the reference on the steps to a target, as `inference.decide` does.

    Restricted times (Royston and Parmar 2013): a rerun that misses the target or diverges counts with the length
    of the shortest run. Cells that miss it in every rerun are not compared with a reference that does so too.
    """
    runs = {cell: reruns_of(of_cell, objective) for cell, of_cell in by_cell(results).items()}
    times = {cell: {run.seed: reached(run, target) for run in of_cell} for cell, of_cell in runs.items() if of_cell}
    everyone, *_ = families(grid) or [Family("no other cell", ())]
    missing = {cell for cell, of_cell in times.items() if all(step is None for step in of_cell.values())}
    kept = tuple(contrast for contrast in everyone.contrasts if not set(contrast.weights) <= missing)
    horizon = min((run.n_steps for of_cell in runs.values() for run in of_cell), default=0)
    family = Family(f"steps to the {100 * target['share']:g} % target, {everyone.name}", kept)
    draws = draws_of(grid, [run for of_cell in runs.values() for run in of_cell])
    # steps as scores of a single column
    values = {cell: np.full((len(grid.seeds), 1), math.nan) for cell in times}
    for cell, rows in values.items():
        for i, seed in enumerate(grid.seeds):
            if seed in times[cell]:
                rows[i] = restricted([times[cell][seed]], horizon)
    decided = decide(
        family,
        [RerunScores(STEPS, LOWER, grid.seeds, ("all",), None, values, {}, draws=draws)],
        None,
        conditional,
        alpha=alpha,
        refused=refused,
    )
    # steps between the validations of a run, the most of all runs
    gaps = [b.step - a.step for run in results for a, b in zip(run.points, run.points[1:], strict=False)]
    note = f"{decided['note']} Times are known to the {max(gaps, default=0)} steps between two validations."
    return decided | {"note": note + (f" Never reached by {', '.join(sorted(missing))}." if missing else "")}
