"""From a grid and the command line to a study folder with its manifest. No torch unless data are simulated."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from mrirecon.ablation.folder import SCHEMA, Study, StudyFolder, disk_full, is_disk_full
from mrirecon.ablation.grid import Grid
from mrirecon.ablation.grid_file import make_grid, read_grid_file
from mrirecon.ablation.identity import code_hash
from mrirecon.ablation.leases import Leases
from mrirecon.config import SimulateConfig, TrainConfig
from mrirecon.config.ablate import AblateConfig
from mrirecon.configfile import build, unflatten
from mrirecon.data.folder import open_folder, select
from mrirecon.data.manifest import data_manifest
from mrirecon.errors import InputError, unknown_name
from mrirecon.evaluation.protocol import find_protocol
from mrirecon.files import write_json, write_text
from mrirecon.progress import say

SPLIT_SEED = 0
_SELECTS = ("val_volumes", "protocol")  # besides data.*
LOGGERS = ("none", "csv", "tensorboard", "wandb")
_SIMULATION_LIMIT_S = 60


def read_content(name: str, config: AblateConfig) -> dict[str, Any]:
    """The grid as asked for: a file, a shipped name or a study folder, with the command line's changes.

    Raises:
        InputError: No grid, or a number out of range.
    """
    for key in ("seeds", "tuning_repeats", "workers", "threads"):
        if getattr(config, key) < 0:
            raise InputError(f"--{key.replace('_', '-')} {getattr(config, key)}; it must not be negative")
    if config.lease < 5:
        raise InputError(f"--lease {config.lease}; give at least 5 seconds")
    if config.logger not in LOGGERS:
        raise unknown_name("logger", config.logger, LOGGERS)
    if config.keep not in ("weights", "nothing"):
        raise unknown_name("keep", config.keep, ("weights", "nothing"))
    path = Path(name)
    content = StudyFolder(path).read_manifest()["grid"] if path.is_dir() else read_grid_file(name)
    tuning = dict(content.get("tuning") or {})
    if config.objectives:
        tuning["objectives"] = config.objectives
    if config.tuning_repeats:
        tuning["repeats"] = config.tuning_repeats
    return {**content, "tuning": tuning, **({"seeds": config.seeds} if config.seeds else {})}


def study_path(name: str, config: AblateConfig, grid: Grid) -> Path:
    """Where the study is or will be."""
    if config.output:
        return Path(config.output)
    return Path(name) if Path(name).is_dir() else Path("ablations") / grid.name


def prepare(name: str, config: AblateConfig) -> Study:
    """Make the study folder, or bring its manifest up to date with an edited grid.

    Raises:
        InputError: A wrong grid or data, a folder that is something else or cannot be written, another package than
            that of the first runs.
    """
    content = read_content(name, config)
    grid = make_grid(content)
    folder = StudyFolder(study_path(name, config, grid))
    _require_ours(folder)
    old = folder.read_manifest() if folder.manifest_file.is_file() else {}
    codes = _codes(folder, old, config.accept_code_change)
    try:
        data = _describe(_find_data(folder, config, grid, old), grid, old.get("data", {}))
    except OSError as error:
        raise disk_full(folder.path) if is_disk_full(error) else error from None
    manifest = {
        "schema": SCHEMA,
        "created": old.get("created", time.strftime("%Y-%m-%d %H:%M:%S")),
        "grid": content,
        "data": data,
        "common": {
            "threads": config.threads or old.get("common", {}).get("threads", 1),
            "precision": old.get("common", {}).get("precision") or _precision(grid, config.device),
            "split_seed": SPLIT_SEED,
        },
        "options": {"device": config.device, "keep": config.keep, "lease": config.lease, "logger": config.logger},
        "code": codes,
        "targets": old.get("targets"),
    }
    if manifest != old:
        write_json(folder.manifest_file, manifest)
        write_text(folder.grid_file, yaml.safe_dump(content, sort_keys=False))
    return Study(folder, manifest)


def _require_ours(folder: StudyFolder) -> None:
    path = folder.path
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give a folder for the study (--output)")
    if folder.is_foreign and not folder.manifest_file.is_file():
        raise InputError(f"{path} holds something else than a study; choose another --output")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}; choose another --output") from None


def _codes(folder: StudyFolder, old: Mapping[str, Any], accept: bool) -> list[str]:
    known, now = list(old.get("code", [])), code_hash()
    if now in known:
        return known
    if known and folder.records() and not accept:
        raise InputError(
            f"the package has changed since the runs in {folder.path} were done (now {now}, then {known[-1]}); "
            "go on with --accept-code-change (the report will say so), or choose another --output"
        )
    return [*known, now] if folder.records() else [now]


def _find_data(folder: StudyFolder, config: AblateConfig, grid: Grid, old: Mapping[str, Any]) -> Path:
    """Given ones, else those of the study, else simulated ones."""
    if config.data:
        return Path(config.data).resolve()
    if old and Path(old["data"]["path"]).is_dir():
        return Path(old["data"]["path"])
    return _simulate_once(folder, grid.simulate)


def simulate(folder: Path, options: Mapping[str, Any]) -> None:
    """Make the data that a grid declares.

    Raises:
        InputError: It declares none.
    """
    if not options:
        raise InputError("no data folder given, and the grid has no 'simulate'; add --data DIR")
    from mrirecon.workflows.simulate import simulate_dataset

    say(f"data        simulating {folder}")
    simulate_dataset(replace(build(SimulateConfig, options), output=str(folder)))


def _simulate_once(study: StudyFolder, options: Mapping[str, Any]) -> Path:
    """Of several that begin at once, one simulates and the others wait."""
    leases = Leases(study.leases, _SIMULATION_LIMIT_S)
    while not study.data.is_dir():
        if not leases.take("data"):
            time.sleep(0.2)
            continue
        with leases.held("data"):
            if not study.data.is_dir():
                simulate(study.data, options)
    return study.data.resolve()


def _describe(path: Path, grid: Grid, old: Mapping[str, Any]) -> dict[str, Any]:
    """What the data are; files that have neither size nor date changed are not opened again."""
    settings = {**grid.cell(grid.reference).settings, "data.path": str(path)}
    signature = _signature(path, settings)
    if old.get("signature") == signature and old.get("path") == str(path):
        return dict(old)
    train = unflatten(TrainConfig, settings)
    folder = open_folder(train.data, SPLIT_SEED, find_protocol(train.protocol).halves_val)
    splits = {
        split: select(folder, train.data, split, SPLIT_SEED, train.val_volumes if split == "val" else 0)[0]
        for split in ("train", "val", "test")
    }
    volumes = [volume for split in splits.values() for volume in split]
    return {
        "path": str(path),
        "signature": signature,
        "sha256": data_manifest(volumes)["sha256"],
        **{f"n_{split}": len(found) for split, found in splits.items()},
        "n_slices": {split: sum(volume.n_slices for volume in found) for split, found in splits.items()},
        "n_patients_test": len({volume.patient for volume in splits["test"]}),
        "origins": sorted({volume.origin for volume in volumes}),
        "notes": folder.notes,
    }


def _signature(path: Path, settings: Mapping[str, Any]) -> str:
    """Of the files, and of what selects some of them."""
    if not path.is_dir():  # open_folder says so
        return ""
    rows = [str([settings[key] for key in sorted(settings) if key.startswith("data.") or key in _SELECTS])]
    for file in sorted(path.rglob("*.h5")):
        facts = file.stat()
        rows.append(f"{file.relative_to(path)} {facts.st_size} {facts.st_mtime_ns}")
    return sha256("\n".join(rows).encode()).hexdigest()[:16]


def _precision(grid: Grid, device: str) -> str:
    """What `auto` is here; every run of the study then has it, wherever it is done."""
    if all(cell.settings["precision"] != "auto" for cell in grid.cells):
        return "fp32"
    from mrirecon.models.precision import auto_precision
    from mrirecon.workflows.device import choose_device

    return "bf16-mixed" if auto_precision(choose_device(device).type) == "bf16-mixed" else "fp32"
