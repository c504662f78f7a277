"""Results and cost of the tuning of a cell: trials, winners, expected best of k, and which learning rates work."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from math import comb
from typing import Any

from mrirecon.ablation.study.grid import Cell, Tuning
from mrirecon.ablation.study.records import RunResult
from mrirecon.ablation.study.tune import REPLACE, edge, searched, tuned


def summarize_tuning(
    cell: Cell, tuning: Tuning, runs: Sequence[RunResult], objective: str, zero_filled: float
) -> dict[str, Any]:
    """The parts of a cell's entry in a study that follow from its tuning and sweep.

    Args:
        cell: The cell.
        tuning: How it was tuned.
        runs: The cell's runs, of any stage.
        objective: `final` or `area`: which winners.
        zero_filled: SSIM of zero-filled validation images; NaN: not known.

    Returns:
        `edge` (in words, at which end of its last range a winner's learning rate lies, in the outer eighth; empty: at
        none), `edges` (the same of every tuned key that has one: those of others than the rate say little, as a winner
        lies anywhere in the range of a key that does not matter), `widened`, `values` (of the first draw's winner),
        `winners` (of each draw), `tuning` (trials and cost), `sweep` (None before the winner is known).
    """
    trials = sorted((r for r in runs if r.stage == "tune"), key=lambda r: (r.repeat, r.widened, r.trial))
    draws = [[t for t in trials if t.repeat == repeat] for repeat in range(tuning.repeats)]
    winners = [tuned(of_draw, objective, tuning) for of_draw in draws]
    edges = _edges(cell, tuning, draws, winners)
    return {
        "edge": edges.get(_LR, ""),
        "edges": edges,
        "widened": any(trial.widened for trial in trials),
        "values": dict(winners[0].values) if winners[0] else {},
        "winners": [dict(best.values) if best else {} for best in winners],
        "tuning": _cost(tuning, draws, winners, objective),
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


DIVERGED_COUNTS_AS = "the worst loss of its cell: at the end of a trial, or of the best one at its first validation"


def diverged_loss(trials: Sequence[RunResult], best: RunResult | None, objective: str) -> float:
    """Return the loss that a diverged trial counts as, see `DIVERGED_COUNTS_AS`; NaN where all diverged.

    It is a matter of the cell alone, so that no cell's curve depends on what others did. At its first validation the
    best trial has learned little: a cell of which one trial works and the others diverge is no cell that cannot fail.
    """
    if best is None:
        return math.nan
    losses = [trial.loss(objective) for trial in trials]
    begin = replace(best, points=best.points[:1]).loss(objective)
    return max(loss for loss in (*losses, begin) if math.isfinite(loss))


def _edges(
    cell: Cell, tuning: Tuning, draws: Sequence[Sequence[RunResult]], winners: Sequence[RunResult | None]
) -> dict[str, str]:
    """Tuned keys of which a winner's value lies at an edge, with the edge and how often, in words."""
    found: dict[str, list[str]] = {}
    for of_draw, best in zip(draws, winners, strict=True):
        ranges = searched(tuning, cell.name, of_draw, tuning.objectives[0]) if best else {}
        for key, bounds in ranges.items():
            if best and (side := edge(best.values[key], bounds)):
                found.setdefault(key, []).append(side)
    often = {key: f" in {len(sides)} of {tuning.repeats} draws" * (tuning.repeats > 1) for key, sides in found.items()}
    return {key: f"{key} at its {' and '.join(sorted(set(sides)))} end{often[key]}" for key, sides in found.items()}


def _cost(
    tuning: Tuning, draws: Sequence[Sequence[RunResult]], winners: Sequence[RunResult | None], objective: str
) -> dict[str, Any]:
    """Trials of a cell in all draws; `n_chosen_from` of them chose the winners, the others a range (`WIDENINGS`)."""
    trials = [trial for of_draw in draws for trial in of_draw]
    replaced = [best is not None and best.widened and tuning.widening == REPLACE for best in winners]
    n_replaced = sum(not trial.widened for of_draw in compress(draws, replaced) for trial in of_draw)
    counted = [  # of one range each, as it takes draws of equal trials
        trial.loss(objective)
        for of_draw, is_replaced in zip(draws, replaced, strict=True)
        for trial in of_draw
        if trial.widened == is_replaced
    ]
    known = [best for best in winners if best is not None]
    best = min(known, key=lambda trial: trial.loss(objective), default=None)
    return {
        "n_trials": len(trials),
        "n_chosen_from": len(trials) - n_replaced,
        "n_diverged": sum(trial.diverged_at is not None for trial in trials),
        "seconds": math.fsum(t for t in (trial.timing.seconds for trial in trials) if math.isfinite(t)),
        "trials": [
            {
                "repeat": trial.repeat,
                "trial": trial.trial,
                "widened": trial.widened,
                "values": dict(trial.values),
                "loss": trial.final_loss,
                "area": trial.area,
                "diverged_at": trial.diverged_at,
            }
            for trial in trials
        ],
        "best_of_k": [list(point) for point in best_of_k(counted, diverged_loss(trials, best, objective))],
    }


GOOD_SHARE = 0.9  # a rate is good when it keeps this share of the cell's best gain in SSIM over zero-filled
_LR = "optimizer.lr"


def lr_sensitivity(
    runs: Sequence[RunResult], best: RunResult | None, objective: str, tuning: Tuning, zero_filled: float
) -> dict[str, Any] | None:
    """Learning rates tried at a winner's other values, the winner itself among them.

    Final loss over learning rate, as Wortsman et al. (2023, arXiv:2309.14322) look at it.

    Args:
        runs: The cell's runs, of any stage.
        best: The winner of the first tuning draw, or None where there is none yet.
        objective: What it is best at.
        tuning: How it was tuned; where the rate is the only dimension the trials are points as well.
        zero_filled: SSIM of zero-filled validation images; NaN: not known.

    Returns:
        None without a winner; else `points` (lr, final validation loss, diverged_at), `lr_best` (by the objective),
        `lr_diverged` (the least rate above it that diverged, None if none did) and `lr_survived` (the largest below
        that which did not: divergence sets in between the two), `good_low` and `good_high`: the tried rates around the
        best, without a gap, whose final SSIM keeps `good_share` of the best one's gain over zero-filled.
    """
    if best is None:
        return None
    points = tried_rates(best, runs, objective, tuning)
    lr_best = min(points, key=lambda r: (r.loss(objective), r.values[_LR])).values[_LR]
    lr_diverged = min((r.values[_LR] for r in points if _failed(r) and r.values[_LR] > lr_best), default=None)
    survived = [r.values[_LR] for r in points if not _failed(r) and r.values[_LR] < (lr_diverged or math.inf)]
    good = _good_rates(points, lr_best, zero_filled)
    return {
        "points": [{"lr": r.values[_LR], "loss": r.final_loss, "diverged_at": r.diverged_at} for r in points],
        "lr_best": lr_best,
        "lr_diverged": lr_diverged,
        "lr_survived": max(survived),
        "good_low": good[0],
        "good_high": good[-1],
        "good_share": GOOD_SHARE,
    }


def tried_rates(best: RunResult, runs: Sequence[RunResult], objective: str, tuning: Tuning) -> list[RunResult]:
    """Return the runs of a cell that differ from a winner in the learning rate only, and it, the slowest first.

    They are its sweep; and the other trials of its draw, where nothing but the rate was tuned.
    """
    tried = [best, *(r for r in runs if r.stage == "sweep" and r.objective == objective and r.repeat == best.repeat)]
    if tuple(tuning.dimensions) == (_LR,):
        tried += [r for r in runs if r.stage == "tune" and r.repeat == best.repeat and r.run != best.run]
    return sorted(tried, key=lambda r: (r.values[_LR], r.stage, r.trial))


def _good_rates(points: Sequence[RunResult], lr_best: float, zero_filled: float) -> list[float]:
    """The tried rates around the best, without a gap, that keep most of what the best one gains over zero-filled."""
    if math.isnan(zero_filled):
        return [math.nan]
    ends = [
        -math.inf if _failed(r) or math.isnan(r.points[-1].scores["ssim"]) else r.points[-1].scores["ssim"]
        for r in points
    ]
    gains = [(r.values[_LR], end - zero_filled) for r, end in zip(points, ends, strict=True)]
    wanted = GOOD_SHARE * max(gain for _, gain in gains)
    run: list[float] = []
    for lr, gain in gains:
        if gain >= wanted or lr == lr_best:
            run.append(lr)
        elif lr > lr_best:
            break
        else:
            run = []
    return run


def _failed(run: RunResult) -> bool:
    return not math.isfinite(run.final_loss)
