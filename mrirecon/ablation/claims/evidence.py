"""What the rules of the claims read of a study, and what they hand to the ledger: effects with intervals.

The cells that a claim is about are found by their settings, whatever the grid calls them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mrirecon.ablation.findings.rerun_scores import RerunScores, by_cell, rerun_scores, reruns_of
from mrirecon.ablation.findings.tuning_summary import tried_rates
from mrirecon.ablation.study.grid import Cell, Grid
from mrirecon.ablation.study.records import RunResult
from mrirecon.ablation.study.tune import tuned, tuned_key
from mrirecon.evaluation.stats import MIN_SEEDS, Sample, Side, half_width, sample
from mrirecon.evaluation.stats.crossed import BOTH
from mrirecon.tables.optimizers import find_optimizer

Needs = Mapping[str, Any]  # dotted key -> its value, or a function that says whether it is one
BETA1 = "optimizer.beta1"  # momentum, or the decay of the first moment: the same idea under two keys
OPTIMIZER = ("optimizer.",)  # keys that two cells may differ in when optimizers are compared
NORM = ("model.norm", "model.channels_per_group", "model.n_groups")
GROUPS = ("model.channels_per_group", "model.n_groups")
POSITION = ("model.norm_position",)
BATCH = ("batch_size",)

_RAW = ("optimizer.momentum", "optimizer.betas", "optimizer.lr")


class Pair(NamedTuple):
    """Two cells that differ in what a claim is about and in nothing else."""

    first: str
    second: str


def matching(grid: Grid, needs: Needs) -> list[Cell]:
    """Return the cells that have these settings."""
    return [cell for cell in grid.cells if _has(effective(grid, cell), needs)]


def pairs(grid: Grid, first: Needs, second: Needs, may_differ: Sequence[str]) -> list[Pair]:
    """Cells of the one kind with cells of the other that have all settings but `may_differ` in common.

    Args:
        grid: The study.
        first: What the first cell of a pair has.
        second: What the second one has.
        may_differ: Keys; a group of keys where the name ends in a dot.
    """
    others = [(rest(grid, cell, may_differ), cell.name) for cell in matching(grid, second)]
    return [
        Pair(cell.name, name)
        for cell in matching(grid, first)
        for settings, name in others
        if settings == rest(grid, cell, may_differ) and name != cell.name
    ]


def rest(grid: Grid, cell: Cell, may_differ: Sequence[str]) -> dict[str, Any]:
    """The settings of a cell without some of them."""
    return {
        key: value
        for key, value in effective(grid, cell).items()
        if not any(key == name or (name.endswith(".") and key.startswith(name)) for name in may_differ)
    }


def effective(grid: Grid, cell: Cell) -> dict[str, Any]:
    """A cell's settings with the beta that its method uses under one key; "tuned" where the tuning decides it."""
    settings = {key: value for key, value in cell.settings.items() if key not in _RAW}
    return settings | {BETA1: "tuned" if tuned_key("one_minus_beta1") in grid.tuning.dimensions else _beta1(cell)}


def _beta1(cell: Cell) -> float | None:
    method, settings = find_optimizer(cell.settings.get("optimizer.name")), cell.settings
    given = settings.get("optimizer.momentum")
    betas = settings.get("optimizer.betas") or [method.beta1 if method else None]
    return given if given is not None else betas[0]


def _has(settings: Mapping[str, Any], needs: Needs) -> bool:
    return all(
        wanted(settings.get(key)) if callable(wanted) else settings.get(key) == wanted for key, wanted in needs.items()
    )


LR = tuned_key("lr")


class Limits(NamedTuple):
    """Bounds between which a number is known to lie."""

    low: float
    high: float


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
        """Return those of the cells whose best rate lies at the edge of its range."""
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
        """Return those of the cells of which a rerun diverged."""
        return [c for c in cells if any(run.diverged_at is not None for run in self.reruns(c).values())]

    def tried_rates(self, cell: str, repeat: int) -> list[RunResult]:
        """Runs of one tuning draw that differ in the learning rate only, the slowest first; empty before all are in."""
        tuning = self.grid.tuning
        of_draw = [run for run in self.runs(cell) if run.repeat == repeat and run.stage != "rerun"]
        trials = [run for run in of_draw if run.stage == "tune"]
        swept = [run for run in of_draw if run.stage == "sweep" and run.objective == self.objective]
        best = tuned(trials, self.objective, tuning)
        if best is None or len(trials) < tuning.trials or len(swept) < tuning.sweep:
            return []
        return tried_rates(best, of_draw, self.objective, tuning)

    def has_failed(self, run: RunResult) -> bool:
        """Say whether a run diverged, or ended below the zero-filled images: a rate of no use."""
        end = run.points[-1].scores["ssim"] if run.points else math.nan
        return not math.isfinite(run.final_loss) or not math.isfinite(end) or end < self.zero_filled


@dataclass(frozen=True)
class Estimate:
    """One effect that a claim speaks about."""

    name: str
    effect: float
    at: Callable[[float], Limits]  # confidence level -> interval
    over: str  # what the interval is over, in words; empty: it is exact


@dataclass(frozen=True)
class Evidence:
    """All effects that a claim needs; it is supported if all of them are where it says."""

    cells: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    note: str = ""  # what a reader has to know besides
    unclear: str = ""  # why the cells that are there cannot decide it
    is_absent: bool = False  # the study has no such cells


ABSENT = Evidence(is_absent=True)
Rule = Callable[[Sources], Evidence]


def exact(name: str, value: float) -> Estimate:
    """An effect without noise."""
    return Estimate(name, value, lambda _level: Limits(value, value), "")


def of_sample(found: Sample) -> Estimate:
    """The mean of a sample with the interval of all verdicts (see `half_width`)."""
    mean = float(found.parts.mean)

    def at(level: float) -> Limits:
        half = float(half_width(found.parts, 1 - level))
        return Limits(mean - half, mean + half)

    patients = f" and {found.n_patients} patients" if found.over == BOTH else ""
    n_seeds = min(found.n_seeds, default=0)
    return Estimate(found.name, mean, at, f"{n_seeds} {found.unit}s{patients}")


def over_draws(name: str, found: Mapping[str, Sequence[Limits]]) -> Estimate | None:
    """Mean of a number that the tuning found, known between limits, with a t interval over the tuning draws.

    Interval: Student 1908. A draw counts with its mean over the blocks: cells that differ in other factors are no
    draws of anything. The interval reaches from the lower limits' lower end to the upper limits' upper end.

    Args:
        name: Of the effect.
        found: By block, its value at each draw; not finite limits mean that it is unbounded.

    Returns:
        None with fewer than 5 draws, which say too little about others.
    """
    values = np.array([list(of_block) for of_block in found.values()], dtype=float)  # (blocks, draws, 2)
    low, high = values.mean(axis=0).T
    if len(low) < MIN_SEEDS:
        return None
    ends = [
        of_sample(sample(name, [Side(end[:, None], range(len(end)))], None))
        for end in (low, high)
        if np.isfinite(end).all()
    ]
    known = {"low": np.isfinite(low).all(), "high": np.isfinite(high).all()}

    def at(level: float) -> Limits:
        lower = ends[0].at(level).low if known["low"] else -math.inf
        upper = ends[-1].at(level).high if known["high"] else math.inf
        return Limits(lower, upper)

    effects = [end.effect for end in ends]
    return Estimate(name, float(np.mean(effects)) if effects else math.nan, at, f"{len(low)} tuning draws")


def evidence_of(
    sources: Sources, cells: Sequence[str], estimates: Sequence[Estimate | None], reason: str, note: str = ""
) -> Evidence:
    """Evidence of all estimates; without it for a reason where one could not be made."""
    made = tuple(estimate for estimate in estimates if estimate is not None)
    if len(made) < len(estimates):
        return Evidence(tuple(cells), unclear=reason)
    edges = sources.edges(cells)
    said = [note, f"best rate at the edge of its range: {', '.join(edges)}" if edges else ""]
    return Evidence(tuple(cells), made, "; ".join(text for text in said if text))


def not_reran(sources: Sources, cells: Sequence[str], by_score: bool = False) -> str:
    """Return the reason why reruns of these cells cannot be compared; empty: they can.

    Args:
        sources: The study.
        cells: Those of a claim.
        by_score: By test scores, in which a rerun that diverged is the zero-filled image unless the grid excludes it.
    """
    counts = by_score and not sources.scores.are_excluded
    if (diverged := sources.diverged(cells)) and not counts:
        return f"reruns diverged in {', '.join(diverged)}, and what is left of a cell are its better runs"
    missing = [cell for cell in cells if len(sources.reruns(cell)) < len(sources.grid.seeds)]
    return f"reruns are missing in {', '.join(missing)}" if missing else ""


def cells_of(found: Sequence[Pair]) -> tuple[str, ...]:
    """All cells of some pairs, each once."""
    return tuple(dict.fromkeys(cell for pair in found for cell in pair))
