"""Which cell reaches a target in fewer steps than the reference. No torch here."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrirecon.ablation.findings.contrasts import Family, families
from mrirecon.ablation.findings.crossings import Target, reached
from mrirecon.ablation.findings.inference import decide
from mrirecon.ablation.findings.rerun_scores import RerunScores, by_cell, reruns_of
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import RunResult
from mrirecon.evaluation.stats import restricted

STEPS = "steps"


def decide_steps(
    grid: Grid, results: Sequence[RunResult], target: Target, objective: str, conditional: str
) -> dict[str, Any]:
    """Decide the family of every cell against the reference on the steps to a target, as `inference.decide` does.

    Restricted times: a rerun that misses the target or diverges counts with the length of the shortest run. Cells that
    miss it in every rerun are not compared with a reference that does so too.
    """
    runs = {cell: reruns_of(of_cell, objective) for cell, of_cell in by_cell(results).items()}
    times = {cell: {run.seed: reached(run, target) for run in of_cell} for cell, of_cell in runs.items() if of_cell}
    everyone, *_ = families(grid) or [Family("no other cell", ())]
    missing = {cell for cell, of_cell in times.items() if all(step is None for step in of_cell.values())}
    kept = tuple(contrast for contrast in everyone.contrasts if not set(contrast.weights) <= missing)
    horizon = min((run.n_steps for of_cell in runs.values() for run in of_cell), default=0)
    family = Family(f"steps to the {100 * target['share']:g} % target, {everyone.name}", kept)
    decided = decide(family, _scores(grid, times, horizon), None, conditional)
    note = f"{decided['note']} Times are known to the {_spacing(results)} steps between two validations."
    return decided | {"note": note + (f" Never reached by {', '.join(sorted(missing))}." if missing else "")}


def _scores(grid: Grid, times: Mapping[str, Mapping[int, int | None]], horizon: int) -> RerunScores:
    """Steps as scores of a single column."""
    values = {cell: np.full((len(grid.seeds), 1), math.nan) for cell in times}
    for cell, rows in values.items():
        for i, seed in enumerate(grid.seeds):
            if seed in times[cell]:
                rows[i] = restricted([times[cell][seed]], horizon)
    return RerunScores(STEPS, "lower", grid.seeds, ("all",), ("all",), values, {})


def _spacing(results: Sequence[RunResult]) -> int:
    """Steps between the validations of a run, the most of all runs."""
    gaps = [b.step - a.step for run in results for a, b in zip(run.points, run.points[1:], strict=False)]
    return max(gaps, default=0)
