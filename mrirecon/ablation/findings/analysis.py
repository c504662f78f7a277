"""From the records of a study to what its report shows: plain data, schema 1."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mrirecon.ablation.findings.contrasts import families
from mrirecon.ablation.findings.inference import decide
from mrirecon.ablation.findings.leaderboard import final_scores, validation_scores, volumes_of
from mrirecon.ablation.findings.learning_curves import (
    Target,
    decide_steps,
    learning_curves,
    make_targets,
    step_seconds,
    times_to,
)
from mrirecon.ablation.findings.rerun_scores import (
    RerunScores,
    by_cell,
    left_out,
    metrics_of,
    rerun_scores,
    reruns_of,
    zero_filled,
)
from mrirecon.ablation.findings.tuning_summary import DIVERGED_COUNTS_AS, summarize_tuning
from mrirecon.ablation.findings.verdict import verdict
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import RunResult, without_nan


def analyse(grid: Grid, results: Sequence[RunResult], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Analyse a study, finished or not.

    Args:
        grid: Its plan.
        results: Records of its runs, in any order.
        facts: What the records do not hold, all of it optional: see `frame`; `zero_filled_val` ({"ssim": ...} of
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
    runs, failures, zero_filled = by_cell(results), facts.get("failures") or {}, zero_filled_val(facts)
    return [
        {
            "cell": cell.name,
            "levels": dict(cell.levels),
            "error": failures.get(cell.name, ""),
            **summarize_tuning(cell, grid.tuning, runs.get(cell.name, []), objective, zero_filled),
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


SCHEMA = 1
ONE_DRAW = "conditional on one tuning draw"


def frame(grid: Grid, results: Sequence[RunResult], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a study's plain data that does not depend on the objective.

    Args:
        grid: Its plan.
        results: Records of its runs.
        facts: `command`, `created`, `data`, `packages`, `git`, `code`, `precision`, `threads`, `targets` (the frozen
            ones: a list, or a mapping that holds it as `targets`), `zero_filled_val`, `notes`; `model`, `budget` and
            `protocol` where they are not to be told from the configuration. All may be left out.
    """
    reference = grid.cell(grid.reference).settings
    return {
        "schema": SCHEMA,
        "name": grid.name,
        "command": facts.get("command", ""),
        "created": facts.get("created", ""),
        "data": _data(grid) | dict(facts.get("data") or {}),
        "model": facts.get("model") or _model(grid, results),
        "budget": facts.get("budget") or _budget(results),
        "protocol": facts.get("protocol") or str(reference.get("protocol", "")),
        "conditional": _conditional(grid),
        "provenance": _provenance(results, facts),
        "factors": {factor: list(levels) for factor, levels in grid.factors.items()},
        "reference": grid.reference,
        "seeds": list(grid.seeds),
        "tuning": _tuning(grid, results),
        "zero_filled": zero_filled(results, grid.reference) or dict.fromkeys(metrics_of(results), math.nan),
        "zero_filled_val": {"ssim": zero_filled_val(facts)},
        "targets": _targets(grid, results, facts),
        "claims": [],
    }


def _conditional(grid: Grid) -> str:
    """What all comparisons depend on: one draw's winners, where no further draw shows what tuning leaves to chance."""
    return ONE_DRAW if grid.tuning.repeats == 1 else ""


def zero_filled_val(facts: Mapping[str, Any]) -> float:
    """SSIM of the zero-filled validation images; NaN: not known."""
    ssim = (facts.get("zero_filled_val") or {}).get("ssim")
    return math.nan if ssim is None else float(ssim)


def _targets(grid: Grid, results: Sequence[RunResult], facts: Mapping[str, Any]) -> list[dict[str, float]]:
    frozen = facts.get("targets")
    if frozen:
        return list(frozen["targets"] if isinstance(frozen, Mapping) else frozen)
    return make_targets(grid, results, zero_filled_val(facts))


def _data(grid: Grid) -> dict[str, Any]:
    settings = grid.cell(grid.reference).settings
    return {"mask": settings.get("data.mask"), "acceleration": settings.get("data.acceleration")}


def _model(grid: Grid, results: Sequence[RunResult]) -> str:
    """One line; where cells differ, their values are joined by `or`."""
    parameters = [r.n_parameters / 1e6 for r in results if r.n_parameters]
    sizes = list(dict.fromkeys(f"{n:.2f}" for n in (min(parameters), max(parameters)))) if parameters else []
    parts = [f"{_of_cells(grid, 'model.name')}"]
    parts += [f"{_of_cells(grid, f'model.{name}')} {name}" for name in ("channels", "pools")]
    return ", ".join([*parts, *([f"{' to '.join(sizes)} M parameters"] if sizes else [])])


def _of_cells(grid: Grid, key: str) -> str:
    return " or ".join(dict.fromkeys(str(cell.settings.get(key)) for cell in grid.cells))


def _budget(results: Sequence[RunResult]) -> str:
    budgets = sorted({(run.n_steps, run.slices_per_step) for run in results})
    return " or ".join(f"{steps} steps x {slices} slice{'s' * (slices > 1)}" for steps, slices in budgets)


def _tuning(grid: Grid, results: Sequence[RunResult]) -> dict[str, Any]:
    tuning = grid.tuning
    return {
        "trials": tuning.trials,
        "repeats": tuning.repeats,
        "draws": dict(zip(map(str, grid.seeds), grid.draws, strict=True)),
        "widening": tuning.widening,
        "dimensions": list(tuning.dimensions),
        "objectives": list(tuning.objectives),
        "spaces": {cell: {key: list(ends) for key, ends in keys.items()} for cell, keys in tuning.spaces.items()},
        "first_seed": tuning.first_seed,
        "n_runs": sum(run.stage == "tune" for run in results),
        "diverged_counts_as": DIVERGED_COUNTS_AS,
    }


def _provenance(results: Sequence[RunResult], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "code": sorted({run.code for run in results} - {""}) or list(facts.get("code") or []),
        "packages": dict(facts.get("packages") or {}),
        "hosts": sorted({run.timing.host for run in results} - {""}),
        "devices": sorted({run.timing.device for run in results} - {""}),
        "git": facts.get("git"),
        "precision": facts.get("precision"),
        "threads": facts.get("threads"),
    }


def study_warnings(grid: Grid, results: Sequence[RunResult], facts: Mapping[str, Any]) -> list[str]:
    """Return the warnings that stand before the numbers: notes of the grid, mixed code, diverged and missing reruns."""
    said = [*grid.notes, *facts.get("notes", [])]
    for name, values in (("package's code", {r.code for r in results}), ("device", {r.timing.device for r in results})):
        if len(values - {""}) > 1:
            said.append(f"The runs used more than one {name}: {', '.join(sorted(values - {''}))}.")
    targets = _targets(grid, results, facts)
    if results and math.isnan(zero_filled_val(facts)) and len(targets) < 2:
        said.append(
            "The SSIM of the zero-filled validation images is not known (zero_filled.json of the study's folder, which "
            "mrirecon ablate run writes): runs that ended below it do not count as failed."
        )
    elif results and not targets and grid.targets:
        said += _no_better(grid, results)
    for objective in grid.tuning.objectives:
        said += _rerun_warnings(grid, results, objective)
    return list(dict.fromkeys(said))


def _no_better(grid: Grid, results: Sequence[RunResult]) -> list[str]:
    """Say why there are no targets although all reruns of the reference are in; empty while some are missing."""
    reruns = reruns_of(by_cell(results).get(grid.reference, []), grid.tuning.objectives[0])
    if {run.seed for run in reruns} < set(grid.seeds):
        return []
    return [f"The reference, {grid.reference}, is no better than zero-filled: no targets, and no test of equivalence."]


def _rerun_warnings(grid: Grid, results: Sequence[RunResult], objective: str) -> list[str]:
    said, runs = [], by_cell(results)
    for cell in grid.cells:
        reruns = reruns_of(runs.get(cell.name, []), objective)
        if failed := [str(run.seed) for run in reruns if run.diverged_at is not None]:
            rest = "compared on the other seeds, without a verdict in its favour"
            treated = rest if len(failed) < len(reruns) else "not compared"
            said.append(f"{cell.name}: reruns diverged (seed {', '.join(failed)}); the cell is {treated}.")
        if 0 < len(reruns) < len(grid.seeds):
            said.append(f"{cell.name}: {len(reruns)} of {len(grid.seeds)} reruns are in.")
    if missing := left_out(rerun_scores(grid, results, "ssim", objective), results):
        said.append(f"Test volumes left out, since some rerun has no score of them: {', '.join(missing)}.")
    return said
