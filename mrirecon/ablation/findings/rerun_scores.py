"""Test scores of the reruns as arrays: cells, seeds, volumes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import RunResult, Score
from mrirecon.evaluation.stats import better_is
from mrirecon.tables.metrics import METRICS


@dataclass(frozen=True)
class RerunScores:
    """One number of every rerun and test volume; or of every rerun, with a single column."""

    metric: str
    better: str  # "higher" or "lower": which values are better
    seeds: tuple[int, ...]  # rows, as in the grid
    volumes: tuple[str, ...]  # columns: those that every scored rerun has, sorted
    patients: tuple[str, ...]  # of the columns
    values: dict[str, np.ndarray]  # cell -> (n_seeds, n_volumes); a row of NaN where a rerun is missing or diverged
    diverged: dict[str, frozenset[int]]  # cell -> seeds of reruns that diverged

    def present(self, cell: str) -> np.ndarray:
        """Return which seeds have scores of every volume, bool (n_seeds,)."""
        return np.isfinite(self.values[cell]).all(axis=1)


def by_cell(results: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Runs by cell, in one order whatever the order of `results`."""
    ordered: dict[str, list[RunResult]] = {}
    for result in sorted(results, key=lambda r: (r.stage, r.objective, r.repeat, r.widened, r.trial, r.seed, r.run)):
        ordered.setdefault(result.cell, []).append(result)
    return ordered


def reruns_of(runs: Sequence[RunResult], objective: str) -> list[RunResult]:
    """The reruns of a cell's winner, by seed."""
    return sorted((r for r in runs if r.stage == "rerun" and r.objective == objective), key=lambda r: r.seed)


def rerun_scores(grid: Grid, results: Sequence[RunResult], metric: str, objective: str) -> RerunScores:
    """A metric of the test volumes, the mean over accelerations; cells without a scored rerun are left out."""
    runs = {cell: reruns_of(of_cell, objective) for cell, of_cell in by_cell(results).items()}
    tables = {
        (cell, run.seed): _by_volume(run.scores, lambda score: score.scores.get(metric, math.nan))
        for cell, of_cell in runs.items()
        for run in of_cell
        if run.diverged_at is None and run.scores
    }
    volumes = sorted(set.intersection(*(set(table) for table in tables.values()))) if tables else []
    volumes = [v for v in volumes if all(np.isfinite(table[v]) for table in tables.values())]
    patients = {score.volume: score.patient for result in results for score in result.scores}
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
    )


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


def _of_zero_filled(metric: str) -> Callable[[Score], float]:
    return lambda score: score.zero_filled[metric]


def _by_volume(scores: Sequence[Score], value: Callable[[Score], float]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for score in sorted(scores, key=lambda s: (s.volume, s.acceleration)):
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
