"""From the records of a study to what its report shows: plain data, schema 1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mrirecon.ablation.findings.contrasts import ALPHA, decide, families
from mrirecon.ablation.findings.leaderboard import divergence, final_scores, validation_scores, verdict, volumes_of
from mrirecon.ablation.findings.learning_curves import (
    Target,
    decide_steps,
    learning_curves,
    make_targets,
    reference_gap,
    step_seconds,
    times_to,
)
from mrirecon.ablation.findings.rerun_scores import (
    RerunScores,
    accelerations_of,
    between,
    by_cell,
    left_out,
    metrics_of,
    rerun_scores,
    reruns_of,
    zero_filled,
)
from mrirecon.ablation.findings.tuning_summary import DIVERGED_COUNTS_AS, summarize_tuning
from mrirecon.ablation.study.grid import EXCLUDE, Grid
from mrirecon.ablation.study.records import RunResult, without_nan
from mrirecon.evaluation.stats import Margin, by_patient, variance_table


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
    """Cells, families, margin, variances and verdict of the winners for one objective."""
    look = look_of(grid, results, objective)
    grid = replace(grid, seeds=grid.seeds[: look.n_seeds])
    scores = {metric: rerun_scores(grid, results, metric, objective) for metric in metrics_of(results)}
    several = accelerations_of(results)
    at_each = [rerun_scores(grid, results, "ssim", objective, acceleration) for acceleration in several]
    conditional, targets = study["conditional"], study["targets"]
    margin = study_margin(grid, results, study, facts)
    options: dict[str, Any] = {"alpha": look.alpha, "refused": look.refused}
    of_scores = (
        [decide(family, at_each, margin, conditional, **options) for family in families(grid)] if at_each else []
    )
    if len(several) > 1:
        losses = [between(of_one, at_each[0]) for of_one in at_each[1:]]
        of_scores += [
            decide(
                replace(family, name=f"{family.name}, by acceleration", is_primary=False),
                losses,
                margin,
                conditional,
                **options,
            )
            for family in families(grid)[:1]
        ]
    of_steps = [decide_steps(grid, results, target, objective, conditional, **options) for target in targets]
    made: dict[str, Any] = {
        "objective": objective,
        "margin": {
            "ssim": math.nan if margin is None else margin.value,
            "share": grid.margin,
            "source": "" if margin is None else margin.source,
        },
        "look": look._asdict(),
        "cells": _cells(grid, results, facts, targets, objective, scores, at_each),
        "families": [*of_scores, *of_steps] if of_scores else [],
        "variances": [found for of_one in at_each if (found := _variances(of_one))],
    }
    return made | {"verdict": [*look.words(), *verdict({**study, **made}, at_each, margin, look.alpha)]}


class Look(NamedTuple):
    """At which seeds the verdicts are read, and with which share of alpha."""

    n_seeds: int
    alpha: float
    number: int  # from 1; 0: the study has no looks, or the first is yet to come
    of: int
    refused: str  # why there are no verdicts yet

    def words(self) -> list[str]:
        """The sentence that stands before the verdicts."""
        if not self.of:
            return []
        if self.refused:
            return [f"No verdicts yet: {self.refused}."]
        share = f"{100 * self.alpha:.3g} % of the 5 % of each family"
        return [f"Look {self.number} of {self.of}, at {self.n_seeds} seeds: intervals and verdicts at {share}."]


def look_of(grid: Grid, results: Sequence[RunResult], objective: str) -> Look:
    """The last look of the grid whose seeds are all in; a study without looks is read whenever asked, at all of alpha.

    Each look has its share of alpha, so that a false finding at any of them stays within it (Bonferroni; Dunn 1961).
    """
    if not grid.looks:
        return Look(len(grid.seeds), ALPHA, 0, 0, "")
    runs = by_cell(results)
    done = [{run.seed for run in reruns_of(runs.get(cell.name, []), objective)} for cell in grid.cells]
    lacking = (i for i, seed in enumerate(grid.seeds) if not all(seed in of_cell for of_cell in done))
    n_in = next(lacking, len(grid.seeds))
    reached = [n for n in grid.looks if n <= n_in]
    if not reached:
        first = next(iter(grid.looks))
        return Look(first, ALPHA * grid.looks[first], 0, len(grid.looks), f"the first look is at {first} seeds")
    return Look(reached[-1], ALPHA * grid.looks[reached[-1]], len(reached), len(grid.looks), "")


def study_margin(
    grid: Grid, results: Sequence[RunResult], study: Mapping[str, Any], facts: Mapping[str, Any]
) -> Margin | None:
    """The study's margin in SSIM with its source; None where the reference gains nothing, or is not rerun yet.

    A share is one of the gap in validation SSIM, from the zero-filled images to the reference: no test score is in it.
    """
    late = str(facts.get("margin_changed") or "")
    when = f"changed in the grid file on {late}, when reruns were there" if late else "set in the grid file"
    if grid.margin_ssim > 0:
        return Margin(grid.margin_ssim, f"{when}{'' if late else ' before the runs'}", bool(late))
    target, zero_filled = next(iter(study["targets"]), None), zero_filled_val(facts)
    gap = reference_gap(grid, results, zero_filled)
    if target and not math.isnan(zero_filled):  # frozen: later seeds do not move it
        gap = (target["ssim"] - zero_filled) / target["share"]
    if not gap > 0:
        return None
    share = f"{100 * grid.margin:g} % of the gap in validation SSIM from zero-filled to {grid.reference}"
    if not grid.has_margin:
        return Margin(grid.margin * gap, f"{share}, the default")
    return Margin(grid.margin * gap, f"{share}, {when}{'' if late else ' before the runs'}", bool(late))


def _variances(scores: RerunScores) -> dict[str, Any] | None:
    """The table of variances over the cells that have all reruns; None where there are too few."""
    cells = [cell for cell in scores.values if scores.present(cell).all() and not scores.diverged.get(cell)]
    if not scores.volumes or scores.patients is None:
        return None
    tables = np.array([by_patient(scores.values[cell], scores.patients) for cell in cells])
    if tables.ndim != 3 or min(tables.shape) < 2:
        return None
    return {
        "at": scores.at,
        "cells": cells,
        "n_seeds": tables.shape[1],
        "n_patients": tables.shape[2],
    } | variance_table(tables)


def _cells(
    grid: Grid,
    results: Sequence[RunResult],
    facts: Mapping[str, Any],
    targets: Sequence[Target],
    objective: str,
    scores: Mapping[str, RerunScores],
    at_each: Sequence[RerunScores],
) -> list[dict[str, Any]]:
    runs, failures, zero_filled = by_cell(results), facts.get("failures") or {}, zero_filled_val(facts)
    return [
        {
            "cell": cell.name,
            "levels": dict(cell.levels),
            "error": failures.get(cell.name, ""),
            **summarize_tuning(cell, grid.tuning, runs.get(cell.name, []), objective, zero_filled),
            **_reran(cell.name, _within(grid, runs.get(cell.name, []), objective), scores),
            # mean test SSIM at each of several accelerations; empty where there is one
            "by_acceleration": (
                {of_one.at: final_scores({"ssim": of_one}, cell.name) for of_one in at_each} if len(at_each) > 1 else {}
            ),
            "times": times_to(targets, _within(grid, runs.get(cell.name, []), objective), grid.seeds),
            **_footprint(runs.get(cell.name, [])),
        }
        for cell in grid.cells
    ]


def _within(grid: Grid, runs: Sequence[RunResult], objective: str) -> list[RunResult]:
    """The reruns of the seeds that are looked at."""
    return [run for run in reruns_of(runs, objective) if run.seed in grid.seeds]


def _reran(cell: str, reruns: Sequence[RunResult], scores: Mapping[str, RerunScores]) -> dict[str, Any]:
    return {
        "n_seeds": len(reruns),
        "n_diverged": sum(run.diverged_at is not None for run in reruns),
        "divergence": divergence(reruns) if reruns else None,
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
        "data": {
            "mask": reference.get("data.mask"),
            "acceleration": reference.get("data.acceleration"),
            **(facts.get("data") or {}),
        },
        "model": facts.get("model") or _model(grid, results),
        "budget": facts.get("budget") or _budget(results),
        "protocol": facts.get("protocol") or str(reference.get("protocol", "")),
        # with one tuning draw all is about its winners; of several the draws are the units of inference
        "conditional": ONE_DRAW if grid.tuning.repeats == 1 else "",
        "provenance": _provenance(results, facts),
        "factors": {factor: list(levels) for factor, levels in grid.factors.items()},
        "reference": grid.reference,
        "seeds": list(grid.seeds),
        "diverged": grid.diverged,
        "readings": list(facts.get("readings") or ()),
        "tuning": _tuning(grid, results),
        "zero_filled": zero_filled(results, grid.reference) or dict.fromkeys(metrics_of(results), math.nan),
        "zero_filled_val": {"ssim": zero_filled_val(facts)},
        "targets": _targets(grid, results, facts),
        "claims": [],
    }


def zero_filled_val(facts: Mapping[str, Any]) -> float:
    """SSIM of the zero-filled validation images; NaN: not known."""
    ssim = (facts.get("zero_filled_val") or {}).get("ssim")
    return math.nan if ssim is None else float(ssim)


def _targets(grid: Grid, results: Sequence[RunResult], facts: Mapping[str, Any]) -> list[dict[str, float]]:
    frozen = facts.get("targets")
    if frozen:
        return list(frozen["targets"] if isinstance(frozen, Mapping) else frozen)
    return make_targets(grid, results, zero_filled_val(facts))


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
    said += _looks_before(grid, results, facts)
    return list(dict.fromkeys(said))


def _looks_before(grid: Grid, results: Sequence[RunResult], facts: Mapping[str, Any]) -> list[str]:
    """Say that verdicts were read at fewer seeds before, unless the grid planned that."""
    now = max((len(reruns_of(runs, grid.tuning.objectives[0])) for runs in by_cell(results).values()), default=0)
    planned = {n: ALPHA * share for n, share in grid.looks.items()}
    unplanned = [
        reading
        for reading in facts.get("readings") or ()
        if reading["n_seeds"] < now and not math.isclose(planned.get(reading["n_seeds"], 0), reading["alpha"])
    ]
    if not unplanned:
        return []
    listed = ", ".join(f"at {reading['n_seeds']} seeds on {reading['when'][:10]}" for reading in unplanned)
    return [
        f"Verdicts were read before, {listed}, and seeds were added since: the {100 * ALPHA:g} % of each family hold "
        "for one reading, not for all of them together (looks: in the grid plans several)."
    ]


def _no_better(grid: Grid, results: Sequence[RunResult]) -> list[str]:
    """Say why there are no targets although all reruns of the reference are in; empty while some are missing."""
    reruns = reruns_of(by_cell(results).get(grid.reference, []), grid.tuning.objectives[0])
    if {run.seed for run in reruns} < set(grid.seeds):
        return []
    return [f"The reference, {grid.reference}, is no better than zero-filled: no targets, and no test of equivalence."]


_AS_ZERO_FILLED = "scored as the zero-filled image (diverged: exclude in the grid leaves them out)"


def _rerun_warnings(grid: Grid, results: Sequence[RunResult], objective: str) -> list[str]:
    said, runs = [], by_cell(results)
    for cell in grid.cells:
        reruns = reruns_of(runs.get(cell.name, []), objective)
        if failed := [str(run.seed) for run in reruns if run.diverged_at is not None]:
            treated = "left out, and no verdict is in its favour" if grid.diverged == EXCLUDE else _AS_ZERO_FILLED
            said.append(f"{cell.name}: reruns diverged (seed {', '.join(failed)}); they are {treated}.")
        if 0 < len(reruns) < len(grid.seeds):
            said.append(f"{cell.name}: {len(reruns)} of {len(grid.seeds)} reruns are in.")
    if missing := left_out(rerun_scores(grid, results, "ssim", objective), results):
        said.append(f"Test volumes left out, since some rerun has no score of them: {', '.join(missing)}.")
    return said
