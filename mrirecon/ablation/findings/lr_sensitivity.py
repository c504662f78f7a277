"""Which learning rates work for a cell, which is best and where it diverges. No torch here."""

import math
from collections.abc import Sequence
from typing import Any

from mrirecon.ablation.study.grid import Tuning
from mrirecon.ablation.study.records import RunResult

GOOD_SHARE = 0.9  # a rate is good when it keeps this share of the cell's best gain in SSIM over zero-filled
_LR = "optimizer.lr"


def lr_sensitivity(
    runs: Sequence[RunResult], best: RunResult | None, objective: str, tuning: Tuning, zero_filled: float
) -> dict[str, Any] | None:
    """Learning rates tried at a winner's other values, the winner itself among them.

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
    points = [best, *_tried_with(best, runs, objective, tuning)]
    points.sort(key=lambda r: (r.values[_LR], r.stage, r.trial))
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


def _tried_with(best: RunResult, runs: Sequence[RunResult], objective: str, tuning: Tuning) -> list[RunResult]:
    """The sweep of the winner; and the trials, where the rate is all that differs between them."""
    swept = [r for r in runs if r.stage == "sweep" and r.objective == objective and r.repeat == best.repeat]
    if tuple(tuning.dimensions) != (_LR,):
        return swept
    trials = [r for r in runs if r.stage == "tune" and r.repeat == best.repeat and r.run != best.run]
    return swept + trials


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
