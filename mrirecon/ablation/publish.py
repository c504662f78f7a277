"""From the records of a study to its report: tables, figures, the page; targets are fixed here, once."""

import csv
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from mrirecon.ablation.claims.ledger import decide_claims
from mrirecon.ablation.findings.analysis import analyse
from mrirecon.ablation.findings.learning_curves import make_targets
from mrirecon.ablation.study.folder import Study, StudyFolder
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import STAGES, RunResult, without_nan
from mrirecon.ablation.work.examples import join_examples
from mrirecon.errors import InputError
from mrirecon.evaluation.results import ZERO_FILLED
from mrirecon.files import replacing, write_json
from mrirecon.runs import package_versions
from mrirecon.tables.metrics import METRICS, in_files

_OUTPUTS = ("index.html", "results.csv", "timing.csv", "results.json", "figures")


def write_report(path: Path) -> Path:
    """Analyse what is there and write `report/`: index.html, results.csv, timing.csv, results.json and figures.

    Returns:
        The page.

    Raises:
        InputError: No study, or not a single finished run.
    """
    study = StudyFolder(path).open()
    results = study.plan.results(study.folder.records())
    if not results:
        raise InputError(f"{path} has no finished run yet; see mrirecon ablate status {path}")
    page = study.folder.report / "index.html"
    if _is_current(study, results):
        return page
    _freeze_targets(study, results)
    analysed = analyse(study.grid, results, facts(study, results))
    analysed["claims"] = decide_claims(study.grid, results, analysed)
    _log_verdicts(study, analysed)
    report = study.folder.report
    report.mkdir(exist_ok=True)
    write_results_csv(report / "results.csv", study.grid, results)
    write_timing_csv(report / "timing.csv", results)
    write_results_json(report / "results.json", analysed)
    _draw(study, analysed, page)
    if study.manifest["options"]["logger"] == "wandb":
        log_study(study.grid.name, study.folder.path, analysed)
    with replacing(_stamp_file(study)) as temporary:
        temporary.write_text(_stamp(study, results))
    return page


def facts(study: Study, results: list[RunResult]) -> dict[str, Any]:
    """Return what the analysis needs besides the records: command, data, notes, targets, failures, versions."""
    manifest = study.manifest
    zero_filled = study.zero_filled() or {}
    mask = {"mask": zero_filled["mask"]} if "mask" in zero_filled else {}
    failed = {entry["cell"]: entry["error"] for entry in study.folder.failed().values()}
    return {
        "command": f"mrirecon ablate run {study.folder.path}",
        "created": time.strftime("%Y-%m-%d %H:%M:%S"),
        "data": {key: manifest["data"][key] for key in ("path", "origins", "n_train", "n_val", "n_test", "n_slices")}
        | {"n_patients_test": manifest["data"]["n_patients_test"], "manifest": manifest["data"]["sha256"]}
        | mask,
        "notes": [*study.grid.notes, *manifest["data"]["notes"]],
        "zero_filled_val": zero_filled or None,
        "targets": manifest["targets"],
        "failures": failed,
        "margin_changed": manifest.get("margin_changed"),
        "readings": study.folder.verdicts(),
        "precision": study.plan.common.precision,
        "threads": study.plan.common.threads,
        "code": sorted({result.code for result in results}),
        "packages": package_versions(),
    }


def _freeze_targets(study: Study, results: list[RunResult]) -> None:
    """Set once all reruns of the reference are there; later seeds do not move them."""
    of = {"scale": study.scale, "reference": study.reference, "shares": list(study.grid.targets)}
    old, zero_filled = study.manifest["targets"], study.zero_filled()
    if old and old["of"] == of:
        return
    targets = make_targets(study.grid, results, zero_filled["ssim"]) if zero_filled else []
    study.manifest["targets"] = {"of": of, "targets": targets} if targets else None
    if study.manifest["targets"] != old:
        write_json(study.folder.manifest_file, study.manifest)


def _log_verdicts(study: Study, analysed: Mapping[str, Any]) -> None:
    """Note a reading of verdicts that is none of the earlier ones again: looking often finds something by chance."""
    primary = next((family for family in analysed["families"] if family["is_primary"]), None)
    if primary is None or primary["refused"]:
        return
    reading = {
        "n_seeds": primary["n_seeds"],
        "alpha": primary["alpha"],
        "margin": analysed["margin"],
        "verdicts": {c["name"]: f"{c['verdict']}{', ' * bool(c['size'])}{c['size']}" for c in primary["comparisons"]},
    }
    earlier = study.folder.verdicts()
    if reading["verdicts"] and all({**old, "when": None} != {**reading, "when": None} for old in earlier):
        write_json(study.folder.verdicts_file, [*earlier, {"when": analysed["created"], **reading}])


def _draw(study: Study, analysed: Mapping[str, Any], page: Path) -> None:
    from mrirecon.report.figures.study import write_study_figures
    from mrirecon.report.pages.study_page import write_study_page

    files = write_study_figures(analysed, page.parent / "figures")
    write_study_page(analysed, _examples(study), page, files)


def _examples(study: Study) -> dict[str, Any] | None:
    """Join the example slices of each cell's rerun with the first seed."""
    files: dict[str, Path] = {}
    done = study.folder.records()
    for spec in study.plan.runs(done):
        if spec.stage == "rerun" and spec.objective == study.grid.tuning.objectives[0] and spec.id in done:
            found = sorted((study.folder.runs / spec.id).glob("*/examples.npz"))
            if found:
                files.setdefault(spec.cell.name, found[0])
    return join_examples(files)


def _is_current(study: Study, results: list[RunResult]) -> bool:
    report, stamp = study.folder.report, _stamp_file(study)
    there = all((report / name).exists() for name in _OUTPUTS)
    return there and stamp.is_file() and stamp.read_text() == _stamp(study, results)


def _stamp_file(study: Study) -> Path:
    return study.folder.report / ".stamp"


def _stamp(study: Study, results: list[RunResult]) -> str:
    """The report is of exactly these runs, this grid and this package."""
    from mrirecon.ablation.study.identity import code_hash

    logger = study.manifest["options"]["logger"]
    runs = sorted(result.run for result in results)
    rows = [runs, study.manifest["grid"], study.folder.failed(), code_hash(), logger]
    return sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


# ---- the tables of a study: results.csv, timing.csv, results.json, and the same for wandb


_WHICH = ("stage", "objective", "repeat", "widened", "trial", "seed")
_TIMES = ("seconds", "step_seconds", "peak_memory", "host", "device")
Row = dict[str, Any]


def write_results_csv(path: Path, grid: Grid, results: Sequence[RunResult]) -> None:
    """Write one row for each validation of each run and one for each test volume and acceleration of a rerun.

    Only what the seed determines, with all digits and in one order: equal studies give equal bytes. The columns of the
    factors' levels begin with `factor.`; tuned values are named by their configuration keys. Quotes are those of
    RFC 4180 (2005), but lines end in a newline alone.

    Args:
        path: File to write, whole or not at all.
        grid: The study's plan.
        results: Records, in any order.
    """
    ordered = sorted(results, key=_order)
    tuned = sorted({key for run in ordered for key in run.values})
    factors = [f"factor.{factor}" for factor in grid.factors]
    columns = ["run", "cell", *factors, *_WHICH, *tuned, "diverged_at", "split", "step", "volume", "patient"]
    scored = {name for run in ordered for point in run.points for name in point.scores}
    scored |= {name for run in ordered for score in run.scores for name in score.scores}
    metrics = in_files({name for name in METRICS if name in scored or not METRICS[name].appended})
    columns += ["acceleration", "val_loss"]
    for appended in (False, True):  # what came after the first version of the table stands at its end
        names = [name for name in metrics if METRICS[name].appended == appended]
        columns += [*names, *(ZERO_FILLED + name for name in names)]
    _write_csv(path, columns, (row for run in ordered for row in _evaluations(run)))


def write_timing_csv(path: Path, results: Sequence[RunResult]) -> None:
    """Write one row for each run with what depends on the machine: seconds, bytes, host, device."""
    _write_csv(
        path,
        ["run", "cell", *_WHICH, *_TIMES],
        (_identity(run) | vars(run.timing) for run in sorted(results, key=_order)),
    )


def write_results_json(path: Path, study: Mapping[str, Any]) -> None:
    """Write the analysed study; what is not finite becomes null."""
    write_json(path, without_nan(study))


def _order(run: RunResult) -> tuple[Any, ...]:
    return (run.cell, STAGES.index(run.stage), run.objective, run.repeat, run.widened, run.trial, run.seed, run.run)


def _identity(run: RunResult) -> Row:
    return {"run": run.run, "cell": run.cell} | {name: getattr(run, name) for name in _WHICH}


def _evaluations(run: RunResult) -> Iterator[Row]:
    levels = {f"factor.{factor}": label for factor, label in run.levels.items()}
    shared = _identity(run) | levels | run.values | {"diverged_at": run.diverged_at}
    for point in sorted(run.points, key=lambda p: p.step):
        yield shared | {"split": "val", "step": point.step, "val_loss": point.val_loss, **point.scores}
    for score in sorted(run.scores, key=lambda s: (s.volume, s.acceleration)):
        about = {"volume": score.volume, "patient": score.patient, "acceleration": score.acceleration}
        scores = dict(score.scores) | {ZERO_FILLED + name: value for name, value in score.zero_filled.items()}
        yield shared | {"split": "test", "step": run.n_steps} | about | scores
    if not run.points and not run.scores:  # diverged before the first validation; it is a result too
        yield shared


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """Empty for what is not known; `repr` keeps all digits of a float."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else value


_LEADERBOARD = ("cell", "n_seeds", "n_diverged", "edge")
_COMPARISON = ("name", "metric", "effect", "low", "high", "p", "verdict", "size", "words")
_CLAIM = ("claim", "text", "verdict", "effect", "low", "high", "margin", "unit", "words")


def log_study(name: str, folder: Path, study: Mapping[str, Any]) -> None:
    """Log leaderboard, comparisons and claims; offline where wandb's server cannot be used (see `start_wandb`).

    Args:
        name: Group of the study's runs.
        folder: The study's; wandb's files go there.
        study: The analysed study.
    """
    from mrirecon.training.loop.loggers import start_wandb, wandb_in

    with wandb_in(folder):
        import wandb

        run = start_wandb(folder, project="mrirecon", group=name, job_type="report", name=f"{name} report")
        for title, (columns, rows) in wandb_tables(study).items():
            run.log({title: wandb.Table(columns=columns, data=rows)})


def wandb_tables(study: Mapping[str, Any]) -> dict[str, tuple[list[str | int], list[list[Any]]]]:
    """Columns and rows by title."""
    metrics = in_files({name for cell in study["cells"] for name in cell["final"] or ()})
    leaders = [
        [*(cell[key] for key in _LEADERBOARD), *((cell["final"] or {}).get(m, {}).get("mean") for m in metrics)]
        for cell in study["cells"]
    ]
    comparisons = [
        [family["name"], *(entry.get(key) for key in _COMPARISON)]
        for family in study["families"]
        for entry in family["comparisons"]
    ]
    claims = [[claim.get(key) for key in _CLAIM] for claim in study["claims"]]
    return {
        "leaderboard": ([*_LEADERBOARD, *metrics], leaders),
        "comparisons": (["family", *_COMPARISON], comparisons),
        "claims": (list(_CLAIM), claims),
    }
