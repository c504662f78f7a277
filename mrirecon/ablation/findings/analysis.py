"""From the records of a study to what its report shows: plain data, schema 1. No torch here."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mrirecon.ablation.findings.contrasts import families
from mrirecon.ablation.findings.crossings import Target, make_targets, step_seconds, times_to
from mrirecon.ablation.findings.frame import frame, study_warnings, zero_filled_val
from mrirecon.ablation.findings.inference import decide
from mrirecon.ablation.findings.leaderboard import final_scores, validation_scores, volumes_of
from mrirecon.ablation.findings.learning_curves import learning_curves
from mrirecon.ablation.findings.plain import without_nan
from mrirecon.ablation.findings.rerun_scores import RerunScores, by_cell, metrics_of, rerun_scores, reruns_of
from mrirecon.ablation.findings.speed import decide_steps
from mrirecon.ablation.findings.tuning_summary import summarize_tuning, worst_loss
from mrirecon.ablation.findings.verdict import verdict
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import RunResult

__all__ = ["analyse", "make_targets"]


def analyse(grid: Grid, results: Sequence[RunResult], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Analyse a study, finished or not.

    Args:
        grid: Its plan.
        results: Records of its runs, in any order.
        facts: What the records do not hold, all of it optional: see `frame.frame`; `zero_filled_val` ({"ssim": ...} of
            the zero-filled validation images) and `failures` (cell -> first error line).

    Returns:
        The study by schema 1: JSON types, None for what is not known. `second` holds what depends on the objective
        (cells, families, margin, verdict) once more for the second one.
    """
    first, *others = grid.tuning.objectives
    study = frame(grid, results, facts)
    study |= _of_objective(grid, results, facts, study, first)
    study["second"] = _of_objective(grid, results, facts, study, others[0]) if others else None
    study["warnings"] = study_warnings(grid, results, facts)
    return dict(without_nan(study))


def _of_objective(
    grid: Grid, results: Sequence[RunResult], facts: Mapping[str, Any], study: Mapping[str, Any], objective: str
) -> dict[str, Any]:
    """Cells, families, margin and verdict of the winners for one objective."""
    scores = {metric: rerun_scores(grid, results, metric, objective) for metric in metrics_of(results)}
    conditional, targets = study["conditional"], study["targets"]
    margin = _margin(grid, scores["ssim"], study["zero_filled"]["ssim"])
    of_scores = [decide(family, scores["ssim"], margin, conditional) for family in families(grid)]
    of_steps = [decide_steps(grid, results, target, objective, conditional) for target in targets]
    made: dict[str, Any] = {
        "objective": objective,
        "margin": {"ssim": margin, "share": grid.margin},
        "cells": _cells(grid, results, facts, targets, objective, scores),
        "families": [*of_scores, *of_steps] if of_scores else [],
    }
    return made | {"verdict": verdict({**study, **made}, scores["ssim"])}


def _cells(
    grid: Grid,
    results: Sequence[RunResult],
    facts: Mapping[str, Any],
    targets: Sequence[Target],
    objective: str,
    scores: Mapping[str, RerunScores],
) -> list[dict[str, Any]]:
    runs, failures = by_cell(results), facts.get("failures") or {}
    worst, zero_filled = worst_loss(results, objective), zero_filled_val(facts)
    return [
        {
            "cell": cell.name,
            "levels": dict(cell.levels),
            "error": failures.get(cell.name, ""),
            **summarize_tuning(cell, grid.tuning, runs.get(cell.name, []), objective, worst, zero_filled),
            **_reran(cell.name, reruns_of(runs.get(cell.name, []), objective), scores),
            "times": times_to(targets, reruns_of(runs.get(cell.name, []), objective), grid.seeds),
            **_footprint(runs.get(cell.name, [])),
        }
        for cell in grid.cells
    ]


def _reran(cell: str, reruns: Sequence[RunResult], scores: Mapping[str, RerunScores]) -> dict[str, Any]:
    return {
        "n_seeds": len(reruns),
        "n_diverged": sum(run.diverged_at is not None for run in reruns),
        "final": final_scores(scores, cell),
        **validation_scores(reruns),
        "curve": learning_curves(reruns),
        "volumes": volumes_of(scores["ssim"], cell),
    }


def _footprint(runs: Sequence[RunResult]) -> dict[str, Any]:
    return {
        "step_seconds": step_seconds(runs),
        "peak_memory": max((run.timing.peak_memory for run in runs), default=0),
        "optimizer_bytes": max((run.optimizer_bytes for run in runs), default=0),
        "n_parameters": max((run.n_parameters for run in runs), default=0),
    }


def _margin(grid: Grid, scores: RerunScores, zero_filled_ssim: float) -> float:
    """Share of the way up from zero-filled to the reference's mean test SSIM; NaN where there is none, or not yet."""
    if grid.reference not in scores.values:
        return math.nan
    rows = scores.values[grid.reference][scores.present(grid.reference)]
    gap = fmean(rows.mean(axis=1).tolist()) - zero_filled_ssim
    return grid.margin * gap if gap > 0 else math.nan
