"""From a grid and the command line to a study folder with its manifest."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from mrirecon.ablation.study.data import describe, find_data, require_same_samples
from mrirecon.ablation.study.folder import SCHEMA, SPLIT_SEED, Study, StudyFolder, disk_full
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.grid_file import make_grid, read_grid_file
from mrirecon.ablation.study.identity import TODAY, code_hash
from mrirecon.ablation.study.tune import REPLACE
from mrirecon.ablation.work.status import count
from mrirecon.config.ablate import AblateConfig
from mrirecon.config.train import DEVICES, LOGGERS
from mrirecon.configfile import require_ranges
from mrirecon.data.folders.volume_files import require_folder
from mrirecon.errors import InputError, unknown_name
from mrirecon.files import is_disk_full, write_json, write_text

MAX_THREADS = 1024
KEEPS = ("weights", "nothing")
_OPTIONS = {"device": "auto", "keep": "weights", "lease": 120, "logger": "none"}  # of a new study


def read_content(name: str, config: AblateConfig) -> dict[str, Any]:
    """The grid as asked for: a file, a shipped name or a study folder, with the command line's changes.

    Raises:
        InputError: No grid, or a number out of range.
    """
    require_ranges(config)
    if config.lease and config.lease < 5:
        raise InputError(f"--lease {config.lease}; give at least 5 seconds")
    if config.threads > MAX_THREADS:
        raise InputError(f"--threads {config.threads}; at most {MAX_THREADS}")
    for key, known in (("keep", KEEPS), ("logger", LOGGERS), ("device", DEVICES)):
        if getattr(config, key) not in ("", *known):
            raise unknown_name(key, getattr(config, key), known)
    path = Path(name)
    content = StudyFolder(path).read_manifest()["grid"] if path.is_dir() else read_grid_file(name)
    if not isinstance(content.get("tuning") or {}, Mapping):
        raise InputError(f"tuning is {content['tuning']!r}; it must map trials, repeats, dimensions, ... to values")
    tuning = dict(content.get("tuning") or {})
    if config.objectives:
        tuning["objectives"] = config.objectives
    if config.tuning_repeats:
        tuning["repeats"] = config.tuning_repeats
    there = StudyFolder(study_path(name, config, str(content["name"])))
    defaults = content.get("defaults", TODAY)
    if not there.manifest_file.is_file():  # one that is there goes on as it began
        tuning.setdefault("widening", REPLACE)
    else:
        begun = there.read_manifest()["grid"]
        defaults = begun["defaults"]
        if widening := (begun.get("tuning") or {}).get("widening"):
            tuning.setdefault("widening", widening)
    own = {"tuning": tuning, "defaults": defaults, **({"seeds": config.seeds} if config.seeds else {})}
    return {**content, **own}


def study_path(name: str, config: AblateConfig, grid: str) -> Path:
    """Return the folder where the study of a grid, given by its name, is or will be."""
    if config.output:
        return Path(config.output)
    return Path(name) if Path(name).is_dir() else Path("ablations") / grid


def prepare(name: str, config: AblateConfig) -> Study:
    """Make the study folder, or bring its manifest up to date with an edited grid.

    Raises:
        InputError: A wrong grid or data, a folder that is something else or cannot be written, another package than
            that of the first runs.
    """
    content = read_content(name, config)
    grid = make_grid(content)
    folder = StudyFolder(study_path(name, config, grid.name))
    if config.data:
        require_folder(Path(config.data))
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
    old = folder.read_manifest() if folder.manifest_file.is_file() else {}
    before = old.get("data", {}) or _data_of(name)
    data = _data(folder, config.data, grid, before)
    if folder.records():
        require_same_samples(old.get("data", {}), data, folder.path)
    has_reruns = any(record.stage == "rerun" for record in folder.records().values())
    study = Study(folder, _manifest(old, content, grid, data, config, has_reruns))
    study.manifest["code"] = _codes(study, config.accept_code_change)
    if study.manifest != old:
        write_json(folder.manifest_file, study.manifest)
        write_text(folder.grid_file, yaml.safe_dump(content, sort_keys=False))
    return study


def standing(name: str, config: AblateConfig) -> Study | None:
    """The study that is there already, as `prepare` would bring it up to date; nothing is written.

    Raises:
        InputError: As of `prepare`, but for the package's changes.
    """
    content = read_content(name, config)
    grid = make_grid(content)
    folder = StudyFolder(study_path(name, config, grid.name))
    if not folder.manifest_file.is_file():
        return None
    old = folder.read_manifest()
    path = Path(config.data).resolve() if config.data else Study(folder, old).data
    if not path.is_dir():
        return Study(folder, _manifest(old, content, grid, old["data"], config))
    data = describe(path, grid, old["data"]) | {"own": path == folder.data.resolve()}
    return Study(folder, _manifest(old, content, grid, data, config))


def _manifest(
    old: Mapping[str, Any],
    content: dict[str, Any],
    grid: Grid,
    data: dict[str, Any],
    config: AblateConfig,
    has_reruns: bool = False,
) -> dict[str, Any]:
    options, common = old.get("options", {}), old.get("common", {})
    changed = old.get("margin_changed")
    if has_reruns and old and old["grid"].get("margin") != content.get("margin"):
        changed = time.strftime("%Y-%m-%d")
    return {
        "schema": SCHEMA,
        "created": old.get("created", time.strftime("%Y-%m-%d %H:%M:%S")),
        "grid": content,
        "data": data,
        "common": {
            "threads": config.threads or common.get("threads", 1),
            "precision": common.get("precision") or _precision(grid, config.device or "auto"),
            "split_seed": SPLIT_SEED,
        },
        "options": {key: getattr(config, key) or options.get(key) or default for key, default in _OPTIONS.items()},
        "code": list(old.get("code", [])),
        "targets": old.get("targets"),
        **({"margin_changed": changed} if changed else {}),
    }


def _data_of(name: str) -> dict[str, Any]:
    """Return the data's description in the study whose grid is taken; empty where it simulated its own, or is none."""
    study = StudyFolder(Path(name))
    if not study.manifest_file.is_file():
        return {}
    data: dict[str, Any] = study.read_manifest()["data"]
    return {} if data["own"] else data


def _data(folder: StudyFolder, given: str, grid: Grid, before: Mapping[str, Any]) -> dict[str, Any]:
    """The data's description; a study folder that was made for wrong ones goes again."""
    try:
        path = find_data(folder, given, grid, before)
        return describe(path, grid, before) | {"own": path == folder.data.resolve()}
    except OSError as error:
        raise disk_full(folder.path) if is_disk_full(error) else error from None
    except InputError:
        with suppress(OSError):  # it holds something
            folder.path.rmdir()
        raise


def _codes(study: Study, accept: bool) -> list[str]:
    """Hashes of the packages that did the runs of a study, with this one if it is to do some.

    A study that an earlier package began keeps its runs, as their identities do not hold the package; what is missing
    is done by this one where the user accepts that (`--accept-code-change`), and the report names both. Where nothing
    is missing there is nothing to accept.

    Raises:
        InputError: Runs are missing, those that are there are another package's, and the user has not accepted that.
    """
    folder, known, now = study.folder, list(study.manifest["code"]), code_hash()
    n_done = len(study.plan.results(folder.records()))
    if now in known:
        return known
    if not folder.records():
        return [now]
    n_left = count(study).expected - n_done
    if not n_left:
        return known
    if known and not accept:
        raise InputError(
            f"the package has changed since {n_done} runs in {folder.path} were done (now {now}, then {known[-1]}), "
            f"and {n_left} are to do; go on with --accept-code-change (the runs that are done stay, and the report "
            "names both packages), with the package of then, or anew in another --output"
        )
    return [*known, now]


def _precision(grid: Grid, device: str) -> str:
    """Return the precision that `auto` is here; every run of the study then has it, wherever it is done."""
    if all(cell.settings["precision"] != "auto" for cell in grid.cells):
        return "fp32"
    from mrirecon.models.device import auto_precision, choose_device

    return "bf16-mixed" if auto_precision(choose_device(device).type) == "bf16-mixed" else "fp32"
