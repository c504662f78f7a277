"""Which runs a study needs, as far as its results so far tell."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from mrirecon.ablation.study.grid import Cell, Grid
from mrirecon.ablation.study.identity import run_id
from mrirecon.ablation.study.records import RunResult
from mrirecon.ablation.study.tune import Ranges, apply, sweep_rates, trial_values, tuned, tuned_key, wider_space, winner


@dataclass(frozen=True)
class Common:
    """Settings that all runs of a study share besides the grid."""

    data: str  # hash of the data manifest
    threads: int = 1
    precision: str = "fp32"  # what auto is
    split_seed: int = 0  # all seeds train and validate on the same volumes


@dataclass(frozen=True)
class RunSpec:
    """A run that is to be done, or was."""

    cell: Cell
    stage: str
    objective: str
    repeat: int
    trial: int
    widened: bool
    seed: int
    values: dict[str, float]
    study: "Common" = field(repr=False)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All dotted configuration keys but the data folder and the device."""
        settings = {**apply(self.values, self.cell.settings), "seed": self.seed, "checkpoints": "end"}
        if settings["precision"] == "auto":
            settings["precision"] = self.study.precision
        return settings | {"threads": self.study.threads, "data.split_seed": self.study.split_seed}

    @cached_property
    def id(self) -> str:
        """Names the run's folder."""
        return run_id(self.settings, self.stage, self.study.data)

    @property
    def label(self) -> str:
        """Cell, stage, trial and seed, as progress and errors show them."""
        where = (
            f"trial {self.trial}" if self.stage == "tune" else f"point {self.trial}" if self.stage == "sweep" else ""
        )
        return f"{self.cell.name} {self.stage} {where} seed {self.seed}".replace("  ", " ")

    @property
    def labels(self) -> dict[str, Any]:
        """The fields of a record that say which run of the grid it is: cell, levels, stage, trial, seed, values."""
        own = ("stage", "objective", "repeat", "trial", "widened", "seed", "values")
        return {"cell": self.cell.name, "levels": self.cell.levels, **{name: getattr(self, name) for name in own}}

    def of(self, result: RunResult) -> RunResult:
        """A record as this grid names it: labels and numbers of trials are the grid's, not the run's."""
        return replace(result, **self.labels)


class Plan:
    """The runs of a grid.

    Args:
        grid: The study.
        common: What its runs share besides.
    """

    def __init__(self, grid: Grid, common: Common) -> None:
        self.grid, self.common = grid, common
        self._trials = {
            (cell.name, repeat): list(self._tune(cell, repeat, grid.tuning.spaces[cell.name], False))
            for cell in grid.cells
            for repeat in range(grid.tuning.repeats)
        }

    def runs(self, done: Mapping[str, RunResult]) -> list[RunSpec]:
        """Every run that is known to be needed, finished ones among them; more may follow from further results.

        Args:
            done: Records by run id.
        """
        return [spec for cell in self.grid.cells for spec in self._of_cell(cell, done)]

    def results(self, done: Mapping[str, RunResult]) -> list[RunResult]:
        """The records that belong to the grid, as it names them."""
        return [spec.of(done[spec.id]) for spec in self.runs(done) if spec.id in done]

    def least(self) -> int:
        """Number of runs if no range is widened."""
        tuning = self.grid.tuning
        of_winner = tuning.sweep * tuning.repeats + len(self.grid.seeds)
        return len(self.grid.cells) * (tuning.trials * tuning.repeats + len(tuning.objectives) * of_winner)

    def _of_cell(self, cell: Cell, done: Mapping[str, RunResult]) -> Iterator[RunSpec]:
        tuning = self.grid.tuning
        winners: dict[tuple[str, int], RunResult] = {}
        for repeat in range(tuning.repeats):
            trials = self._trials[cell.name, repeat]
            yield from trials
            further, complete = self._further(cell, repeat, trials, done)
            yield from further
            for objective in tuning.objectives if complete else ():
                best = tuned(_records([*trials, *further], done), objective, tuning)
                if best:
                    winners[objective, repeat] = best
        for (objective, repeat), best in winners.items():
            yield from self._sweep(cell, objective, repeat, best)
        for objective in tuning.objectives:
            if all((objective, repeat) in winners for repeat in range(tuning.repeats)):
                for seed, repeat in zip(self.grid.seeds, self.grid.draws, strict=True):
                    values = dict(winners[objective, repeat].values)
                    yield self._spec(cell, "rerun", objective, repeat, 0, values, seed, False)

    def _further(
        self, cell: Cell, repeat: int, trials: Sequence[RunSpec], done: Mapping[str, RunResult]
    ) -> tuple[list[RunSpec], bool]:
        """The trials of the widened range, where the best lies at an edge; and whether the tuning is complete."""
        records = _records(trials, done)
        if len(records) < len(trials):
            return [], False
        best = winner(records, self.grid.tuning.objectives[0])
        ranges = wider_space(self.grid.tuning, cell.name, best) if best else None
        if ranges is None:
            return [], True
        further = list(self._tune(cell, repeat, ranges, True))
        return further, len(_records(further, done)) == len(further)

    def _tune(self, cell: Cell, repeat: int, ranges: Ranges, is_wider: bool) -> Iterator[RunSpec]:
        tuning = self.grid.tuning
        points = trial_values(ranges, tuning.trials, tuning.first_seed, repeat)
        for trial, values in enumerate(points):
            yield self._spec(cell, "tune", tuning.objectives[0], repeat, trial, values, tuning.seeds[repeat], is_wider)

    def _sweep(self, cell: Cell, objective: str, repeat: int, best: RunResult) -> Iterator[RunSpec]:
        tuning, key = self.grid.tuning, tuned_key("lr")
        for point, lr in enumerate(sweep_rates(best.values[key], tuning.sweep)):
            yield self._spec(
                cell, "sweep", objective, repeat, point, {**best.values, key: lr}, tuning.seeds[repeat], False
            )

    def _spec(
        self,
        cell: Cell,
        stage: str,
        objective: str,
        repeat: int,
        trial: int,
        values: dict[str, float],
        seed: int,
        is_wider: bool,
    ) -> RunSpec:
        return RunSpec(cell, stage, objective, repeat, trial, is_wider, seed, values, self.common)


def _records(specs: Sequence[RunSpec], done: Mapping[str, RunResult]) -> list[RunResult]:
    return [spec.of(done[spec.id]) for spec in specs if spec.id in done]
