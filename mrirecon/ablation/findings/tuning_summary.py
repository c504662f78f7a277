"""What the tuning of a cell found and what it cost: trials, winners, expected best of k. No torch here."""

import math
from collections.abc import Sequence
from math import comb
from typing import Any

from mrirecon.ablation.findings.lr_sensitivity import lr_sensitivity
from mrirecon.ablation.study.grid import Cell, Tuning
from mrirecon.ablation.study.records import RunResult
from mrirecon.ablation.study.tune import edge, searched, winner


def summarize_tuning(
    cell: Cell, tuning: Tuning, runs: Sequence[RunResult], objective: str, diverged_loss: float, zero_filled: float
) -> dict[str, Any]:
    """The parts of a cell's entry in a study that follow from its tuning and sweep.

    Args:
        cell: The cell.
        tuning: How it was tuned.
        runs: The cell's runs, of any stage.
        objective: `final` or `area`: which winners.
        diverged_loss: What a diverged trial counts as in the expected best of k.
        zero_filled: SSIM of zero-filled validation images; NaN: not known.

    Returns:
        `edge` (where a winner lies in the outer eighth of the last range: low, high or empty), `widened`, `values` (of
        the first draw's winner), `winners` (of each draw), `tuning` (trials and cost), `sweep` (None before the winner
        is known).
    """
    trials = sorted((r for r in runs if r.stage == "tune"), key=lambda r: (r.repeat, r.widened, r.trial))
    winners = [winner([t for t in trials if t.repeat == repeat], objective) for repeat in range(tuning.repeats)]
    found = [best for best in winners if best is not None]
    return {
        "edge": _edge(cell, tuning, trials, found),
        "widened": any(trial.widened for trial in trials),
        "values": dict(winners[0].values) if winners[0] else {},
        "winners": [dict(best.values) if best else {} for best in winners],
        "tuning": _cost(trials, objective, diverged_loss),
        "sweep": lr_sensitivity(runs, winners[0], objective, tuning, zero_filled),
    }


def best_of_k(losses: Sequence[float], diverged_loss: float) -> list[tuple[int, float]]:
    """Expected least loss of k trials, k from 1 to all of them.

    Mean over all subsets of k of the n trials, in closed form: the i-th smallest of n is the least of k in
    C(n - i, k - 1) of the C(n, k) subsets (Dodge et al. 2019 draw with replacement; here without).

    Args:
        losses: Of the trials; one that is not finite counts as `diverged_loss`.
        diverged_loss: Finite.
    """
    ordered = sorted(loss if math.isfinite(loss) else diverged_loss for loss in losses)
    n = len(ordered)
    return [
        (k, math.fsum(comb(n - i, k - 1) * loss for i, loss in enumerate(ordered, start=1)) / comb(n, k))
        for k in range(1, n + 1)
    ]


def worst_loss(results: Sequence[RunResult], objective: str) -> float:
    """The largest finite loss of all trials of a study, which a diverged trial counts as; NaN without any."""
    losses = [r.loss(objective) for r in results if r.stage == "tune"]
    return max((loss for loss in losses if math.isfinite(loss)), default=math.nan)


def _edge(cell: Cell, tuning: Tuning, trials: Sequence[RunResult], winners: Sequence[RunResult]) -> str:
    """Of the first tuned key and draw that has one."""
    for best in winners:
        of_draw = [trial for trial in trials if trial.repeat == best.repeat]
        for key, bounds in searched(tuning, cell.name, of_draw, tuning.objectives[0]).items():
            if side := edge(best.values[key], bounds):
                return side
    return ""


def _cost(trials: Sequence[RunResult], objective: str, diverged_loss: float) -> dict[str, Any]:
    declared = [trial.loss(objective) for trial in trials if not trial.widened]  # a wider range is another draw
    return {
        "n_trials": len(trials),
        "n_diverged": sum(trial.diverged_at is not None for trial in trials),
        "seconds": math.fsum(t for t in (trial.timing.seconds for trial in trials) if math.isfinite(t)),
        "trials": [_trial(trial) for trial in trials],
        "best_of_k": [list(point) for point in best_of_k(declared, diverged_loss)],
    }


def _trial(trial: RunResult) -> dict[str, Any]:
    return {
        "repeat": trial.repeat,
        "trial": trial.trial,
        "widened": trial.widened,
        "values": dict(trial.values),
        "loss": trial.final_loss,
        "area": trial.area,
        "diverged_at": trial.diverged_at,
    }
