"""Test scores of the reruns as arrays: cells, seeds, volumes."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from mrirecon.ablation.study.grid import EXCLUDE, ZERO_FILLED, Grid
from mrirecon.ablation.study.records import RunResult, Score
from mrirecon.evaluation.stats import Side, better_is
from mrirecon.tables.metrics import METRICS


@dataclass(frozen=True)
class RerunScores:
    """One number of every rerun and test volume; or of every rerun, with a single column."""

    metric: str
    better: str  # "higher" or "lower": which values are better
    seeds: tuple[int, ...]  # rows, as in the grid
    volumes: tuple[str, ...]  # columns: those that every scored rerun has, sorted
    patients: tuple[str, ...] | None  # of the columns; None: the columns are no sample
    values: dict[str, np.ndarray]  # cell -> (n_seeds, n_volumes); a row of NaN where a rerun is missing or left out
    diverged: dict[str, frozenset[int]]  # cell -> seeds of reruns that diverged
    are_excluded: bool = False  # what diverged is left out; else it scores as the zero-filled image
    draws: dict[int, int] | None = None  # seed -> its tuning draw, where there are several: then these are the units
    at: str = ""  # the acceleration, in words; empty: the study has one

    def present(self, cell: str) -> np.ndarray:
        """Return which seeds have scores of every volume, bool (n_seeds,)."""
        return np.isfinite(self.values[cell]).all(axis=1)

    def side(self, cell: str, weight: float) -> Side:
        """The runs of a cell as one side of a comparison."""
        rows = self.present(cell)
        seeds = [seed for seed, is_there in zip(self.seeds, rows, strict=True) if is_there]
        draws = None if self.draws is None else [self.draws[seed] for seed in seeds]
        return Side(self.values[cell][rows], seeds, weight, draws)

    def survivors(self, cells: Iterable[str]) -> list[str]:
        """Return the cells of which only the reruns that did not diverge are scored."""
        return [cell for cell in cells if self.are_excluded and self.diverged.get(cell)]


def by_cell(results: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Runs by cell, in one order whatever the order of `results`."""
    ordered: dict[str, list[RunResult]] = {}
    for result in sorted(results, key=lambda r: (r.stage, r.objective, r.repeat, r.widened, r.trial, r.seed, r.run)):
        ordered.setdefault(result.cell, []).append(result)
    return ordered


def reruns_of(runs: Sequence[RunResult], objective: str) -> list[RunResult]:
    """The reruns of a cell's winner, by seed."""
    return sorted((r for r in runs if r.stage == "rerun" and r.objective == objective), key=lambda r: r.seed)


def rerun_scores(
    grid: Grid, results: Sequence[RunResult], metric: str, objective: str, acceleration: float | None = None
) -> RerunScores:
    """A metric of the test volumes; cells without a scored rerun are left out.

    A rerun that diverged scores as the zero-filled image, or is left out where the grid says so.

    Args:
        grid: The study's plan.
        results: Its records.
        metric: Name of the metric.
        objective: Of the tuning, whose winners were rerun.
        acceleration: One of `accelerations_of`; None: the mean over all of them.
    """
    runs = {cell: reruns_of(of_cell, objective) for cell, of_cell in by_cell(results).items()}
    everything = [run for of_cell in runs.values() for run in of_cell]
    tables = {
        (run.cell, run.seed): _by_volume(run.scores, _of_own(metric), acceleration)
        for run in everything
        if run.diverged_at is None and run.scores
    }
    volumes = sorted(set.intersection(*(set(table) for table in tables.values()))) if tables else []
    volumes = [v for v in volumes if all(np.isfinite(table[v]) for table in tables.values())]
    instead = _zero_filled_volumes(results, metric, acceleration) if grid.diverged == ZERO_FILLED else {}
    if all(math.isfinite(instead.get(volume, math.nan)) for volume in volumes):
        tables |= {(run.cell, run.seed): instead for run in everything if run.diverged_at is not None}
    patients = {score.volume: score.patient for result in results for score in result.scores}
    several = accelerations_of(results)
    return RerunScores(
        metric=metric,
        better=better_is(metric),
        seeds=grid.seeds,
        volumes=tuple(volumes),
        patients=tuple(patients[v] for v in volumes),
        values={
            cell.name: _rows(cell.name, grid.seeds, volumes, tables)
            for cell in grid.cells
            if volumes and any((cell.name, seed) in tables for seed in grid.seeds)
        },
        diverged={
            cell: frozenset(run.seed for run in of_cell if run.diverged_at is not None)
            for cell, of_cell in runs.items()
        },
        are_excluded=grid.diverged == EXCLUDE,
        draws=draws_of(grid, everything),
        at=f"{acceleration:g}x" if acceleration is not None and len(several) > 1 else "",
    )


def draws_of(grid: Grid, reruns: Iterable[RunResult]) -> dict[int, int] | None:
    """The tuning draw of each seed, where the grid has several."""
    return {run.seed: run.repeat for run in reruns} if grid.tuning.repeats > 1 else None


def accelerations_of(results: Sequence[RunResult]) -> list[float]:
    """The nominal accelerations of the test scores, the least first."""
    return sorted({score.acceleration for result in results for score in result.scores})


def between(first: RerunScores, second: RerunScores) -> RerunScores:
    """The first acceleration's scores minus the second's, run by run: what a method loses from one to the other."""
    values = {cell: rows - second.values[cell] for cell, rows in first.values.items() if cell in second.values}
    return replace(first, values=values, at=f"{first.at} - {second.at}")


def left_out(scores: RerunScores, results: Sequence[RunResult]) -> list[str]:
    """Test volumes that some rerun lacks, or has without a finite score."""
    return sorted({score.volume for result in results for score in result.scores} - set(scores.volumes))


def zero_filled(results: Sequence[RunResult], reference: str) -> dict[str, float] | None:
    """Mean scores of the zero-filled test images, the same in every rerun (the reference's, where there is one).

    None before any is scored.
    """
    scored = min((r for r in results if r.scores), key=lambda r: (r.cell != reference, r.run), default=None)
    if scored is None:
        return None
    return {
        metric: fmean(_by_volume(scored.scores, _of_zero_filled(metric)).values()) for metric in metrics_of(results)
    }


def metrics_of(results: Sequence[RunResult]) -> list[str]:
    """The metrics that every scored test volume of every rerun has; before there is one, those of the first studies.

    A study that began before a metric came, and went on after it, goes on without it.
    """
    scores = [score for result in results for score in result.scores]
    return [
        name
        for name, metric in METRICS.items()
        if (all(name in score.scores for score in scores) if scores else not metric.appended)
    ]


def _zero_filled_volumes(results: Sequence[RunResult], metric: str, acceleration: float | None) -> dict[str, float]:
    """The score of each volume's zero-filled image, the same in every rerun."""
    found: dict[str, float] = {}
    for result in sorted(results, key=lambda run: run.run, reverse=True):
        found |= _by_volume(result.scores, _of_zero_filled(metric), acceleration)
    return found


def _of_own(metric: str) -> Callable[[Score], float]:
    return lambda score: score.scores.get(metric, math.nan)


def _of_zero_filled(metric: str) -> Callable[[Score], float]:
    return lambda score: score.zero_filled.get(metric, math.nan)


def _by_volume(
    scores: Sequence[Score], value: Callable[[Score], float], acceleration: float | None = None
) -> dict[str, float]:
    """A number of each volume, the mean over accelerations or at one of them."""
    values: dict[str, list[float]] = {}
    for score in sorted(scores, key=lambda s: (s.volume, s.acceleration)):
        if acceleration not in (None, score.acceleration):
            continue
        values.setdefault(score.volume, []).append(value(score))
    return {volume: fmean(of_volume) for volume, of_volume in values.items()}


def _rows(
    cell: str, seeds: Sequence[int], volumes: Sequence[str], tables: Mapping[tuple[str, int], Mapping[str, float]]
) -> np.ndarray:
    rows = np.full((len(seeds), len(volumes)), np.nan)
    for i, seed in enumerate(seeds):
        if (cell, seed) in tables:
            rows[i] = [tables[cell, seed][volume] for volume in volumes]
    return rows
