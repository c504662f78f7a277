"""What the rules of the claims read: scores, reruns, learning rates that were tried. No torch here."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from mrirecon.ablation.findings.rerun_scores import RerunScores, by_cell, rerun_scores, reruns_of
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import RunResult
from mrirecon.ablation.study.spaces import tuned_key
from mrirecon.ablation.study.tune import winner

LR = tuned_key("lr")


class Sources:
    """A study's records as the rules ask for them; all of the first objective.

    Args:
        grid: The study's plan.
        results: Its records.
        study: What `analyse` made of them.
    """

    def __init__(self, grid: Grid, results: Sequence[RunResult], study: Mapping[str, Any]) -> None:
        self.grid, self.study = grid, study
        self.objective = grid.tuning.objectives[0]
        self._results, self._runs = results, by_cell(results)

    @cached_property
    def scores(self) -> RerunScores:
        """Test SSIM of the reruns."""
        return rerun_scores(self.grid, self._results, "ssim", self.objective)

    @cached_property
    def margin(self) -> float:
        """The study's margin of equivalence in SSIM; NaN: not known yet."""
        margin = (self.study.get("margin") or {}).get("ssim")
        return math.nan if margin is None else float(margin)

    @cached_property
    def targets(self) -> list[Mapping[str, float]]:
        """The study's targets, the lowest first."""
        return sorted(self.study.get("targets") or [], key=lambda target: target["share"])

    @cached_property
    def zero_filled(self) -> float:
        """Validation SSIM of zero-filled images; NaN: not known, which the study's warnings say.

        Studies analysed by earlier versions do not hold it, but two targets tell it.
        """
        known = (self.study.get("zero_filled_val") or {}).get("ssim")
        if known is not None:
            return float(known)
        if len(self.targets) < 2:
            return math.nan
        (a, b), (x, y) = ([t[name] for t in self.targets[:2]] for name in ("share", "ssim"))
        return (b * x - a * y) / (b - a)

    def edges(self, cells: Sequence[str]) -> list[str]:
        """Those of the cells whose best rate lies at the edge of its range."""
        return [cell["cell"] for cell in self.study.get("cells") or [] if cell["edge"] and cell["cell"] in cells]

    def runs(self, cell: str) -> list[RunResult]:
        """All records of a cell."""
        return self._runs.get(cell, [])

    def reruns(self, cell: str) -> dict[int, RunResult]:
        """A cell's reruns by seed."""
        return {run.seed: run for run in reruns_of(self.runs(cell), self.objective)}

    def shared_seeds(self, cells: Sequence[str]) -> list[int]:
        """Seeds that all of the cells were rerun on, in the order of the grid."""
        reruns = [self.reruns(cell) for cell in cells]
        return [seed for seed in self.grid.seeds if all(seed in of_cell for of_cell in reruns)]

    def diverged(self, cells: Sequence[str]) -> list[str]:
        """Those of the cells of which a rerun diverged."""
        return [c for c in cells if any(run.diverged_at is not None for run in self.reruns(c).values())]

    def tried_rates(self, cell: str, repeat: int) -> list[RunResult]:
        """Runs of one tuning draw that differ in the learning rate only, the slowest first; empty before all are in.

        The winner and the sweep around it; the trials too where nothing but the rate was tuned.
        """
        tuning = self.grid.tuning
        of_draw = [run for run in self.runs(cell) if run.repeat == repeat and run.stage != "rerun"]
        trials = [run for run in of_draw if run.stage == "tune"]
        swept = [run for run in of_draw if run.stage == "sweep" and run.objective == self.objective]
        best = winner(trials, self.objective)
        if best is None or len(trials) < tuning.trials or len(swept) < tuning.sweep:
            return []
        tried = [*swept, *(trials if tuple(tuning.dimensions) == (LR,) else [best])]
        return sorted(tried, key=lambda run: (run.values[LR], run.stage, run.trial))

    def has_failed(self, run: RunResult) -> bool:
        """Whether a run diverged, or ended below the zero-filled images: a rate of no use."""
        end = run.points[-1].scores["ssim"] if run.points else math.nan
        return not math.isfinite(run.final_loss) or not math.isfinite(end) or end < self.zero_filled

    def rows(self, cells: Sequence[str]) -> np.ndarray:
        """Which seeds have test scores of all the cells, bool (n_seeds,)."""
        if any(cell not in self.scores.values for cell in cells):
            return np.zeros(len(self.grid.seeds), dtype=bool)
        return np.asarray(np.all([self.scores.present(cell) for cell in cells], axis=0))
