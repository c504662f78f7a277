"""From the records of a study to its report: tables, figures, the page; targets are fixed here, once."""

import json
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from mrirecon.ablation.claims.ledger import decide_claims
from mrirecon.ablation.findings.analysis import analyse
from mrirecon.ablation.findings.learning_curves import make_targets
from mrirecon.ablation.study.folder import Study, StudyFolder
from mrirecon.ablation.study.records import RunResult
from mrirecon.ablation.tables import log_study, write_results_csv, write_results_json, write_timing_csv
from mrirecon.ablation.work.examples import join_examples
from mrirecon.errors import InputError
from mrirecon.files import replacing, write_json
from mrirecon.runs import package_versions

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
