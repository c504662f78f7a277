"""The data of a study: given ones, or simulated once; what they are, and whether they are still the same."""

import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from mrirecon.ablation.study.folder import SPLIT_SEED, StudyFolder
from mrirecon.ablation.study.grid import Grid
from mrirecon.config import SimulateConfig, TrainConfig
from mrirecon.configfile import build, unflatten
from mrirecon.data.folders.folder import DataFolder, open_folder, select
from mrirecon.data.folders.manifest import are_others, content_hash, data_manifest, samples_of
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation.protocol import find_protocol
from mrirecon.leases import Leases
from mrirecon.progress import say
from mrirecon.yamlfile import parse_yaml

_SIMULATION_LIMIT_S = 60
_MADE_WITH = "simulation.yaml"  # in a simulated folder: the options
_NO_OPTIONS = ("output", "overwrite")


def find_data(folder: StudyFolder, given: str, grid: Grid, old: Mapping[str, Any]) -> Path:
    """Given ones, else those that the study had, else simulated ones.

    Args:
        folder: The study.
        given: The folder that the caller names; empty: none.
        grid: Declares the simulation.
        old: What the manifest says about the data of earlier runs; empty: nothing.

    Raises:
        InputError: The study had data that are gone, or simulated ones of other options; or there are none.
    """
    if given:
        return Path(given).resolve()
    if old and not old["own"]:
        if not Path(old["path"]).is_dir():
            raise InputError(f"the data of this study were in {old['path']}, which is gone; say where: --data DIR")
        return Path(old["path"])
    if grid.simulate and folder.data.is_dir():
        # an edited simulation is another data set, and another study
        made = parse_yaml(folder.data / _MADE_WITH)
        wanted = asdict(build(SimulateConfig, grid.simulate))
        for key, value in wanted.items():
            if key not in _NO_OPTIONS and made.get(key) != value:
                raise InputError(
                    f"{folder.data} was simulated with {key} {made.get(key)}, the grid now says {value}; "
                    "choose another --output, or put it back"
                )
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
    """Simulate the study's data unless they are there; of several that begin at once, one does and the others wait."""
    leases = Leases(study.leases, _SIMULATION_LIMIT_S)
    while not study.data.is_dir():
        if not leases.take("data"):
            time.sleep(0.2)
            continue
        with leases.held("data"):
            if not study.data.is_dir():
                simulate(study.data, options)
    return study.data.resolve()


def describe(path: Path, grid: Grid, old: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the data; files that have neither size nor date changed are not opened again."""
    settings = {**grid.cell(grid.reference).settings, "data.path": str(path)}
    now = signature(path, settings)
    if old.get("signature") == now and old["path"] == str(path):
        return dict(old)
    train = unflatten(TrainConfig, settings)
    folder, splits = _open(train)
    volumes = [volume for split in splits.values() for volume in split]
    # raise an InputError for a file whose k-space the mask does not go with; full k-space needs no torch for it
    if train.data.mask == "file" or not all(volume.is_full for volume in volumes):
        from mrirecon.data.mask_choice import mask_spec, uses_own

        spec = mask_spec(train.data, volumes)
        for volume in volumes:
            uses_own(volume, spec)
    return {
        "path": str(path),
        "signature": now,
        "sha256": data_manifest(volumes)["sha256"],
        "content": content_hash(volumes),
        "seen_as": _seen_as(path),
        "samples": samples_of(volumes),
        **{f"n_{split}": len(found) for split, found in splits.items()},
        "n_slices": {split: sum(volume.n_slices for volume in found) for split, found in splits.items()},
        "n_patients_test": len({volume.patient for volume in splits["test"]}),
        "origins": sorted({volume.origin for volume in volumes}),
        "notes": folder.notes,
    }


def require_same_contents(path: Path, grid: Grid, described: Mapping[str, Any]) -> None:
    """Check that the files have the contents described, where this machine may have its own files at that path.

    Raises:
        InputError: They have not, though their names, sizes and dates are the same.
    """
    if described.get("content") is None or (described["seen_as"] and described["seen_as"] == _seen_as(path)):
        return  # a study of an earlier version; one file system
    train = unflatten(TrainConfig, {**grid.cell(grid.reference).settings, "data.path": str(path)})
    if content_hash([volume for split in _open(train)[1].values() for volume in split]) != described["content"]:
        raise InputError(
            f"the files in {path} have other headers, attributes or first slices on {socket.gethostname()} than where "
            "the study was begun; give all nodes the same files"
        )


def _open(train: TrainConfig) -> tuple[DataFolder, dict[str, list[Volume]]]:
    """The folder, and the checked volumes of each split that the study uses."""
    folder = open_folder(train.data, SPLIT_SEED, find_protocol(train.protocol).halves_val)
    return folder, {
        split: select(folder, train.data, split, SPLIT_SEED, train.val_volumes if split == "val" else 0)[0]
        for split in ("train", "val", "test")
    }


def _seen_as(path: Path) -> str:
    """Hash of the files' inodes and times of change by the system: that of copies differs.

    Empty where it proves nothing, as times are whole seconds.
    """
    stats = [file.stat() for file in _files(path)]
    if any(stat.st_ctime_ns % 10**9 == 0 for stat in stats):
        return ""
    return sha256(str([(stat.st_ino, stat.st_ctime_ns) for stat in stats]).encode()).hexdigest()[:16]


def require_same_samples(old: Mapping[str, Any], data: Mapping[str, Any], study: Path) -> None:
    """Runs of edited samples do not go beside those of the samples before; names, sizes and headers tell no edit.

    Args:
        old: What the manifest of a study that has runs says about its data.
        data: What they are now; see `describe`.
        study: For the error.

    Raises:
        InputError: The same files have other samples. (Other files make other runs.)
    """
    if old.get("sha256") == data["sha256"] and "samples" in old and are_others(old["samples"], data["samples"]):
        raise InputError(
            f"the files in {data['path']} have the names, sizes and headers of those that the runs in {study} were "
            "done on, but other samples; put them back, or choose another --output"
        )


def signature(path: Path, settings: Mapping[str, Any]) -> str:
    """Hash of names, sizes and times of change of the files, and of what selects some of them; opens none."""
    of_data = (key for key in settings if key.startswith("data.") and key != "data.path")
    selecting = {"val_volumes", "protocol", *of_data}
    rows = [str([settings[key] for key in sorted(settings) if key in selecting])]
    for file in _files(path):
        facts = file.stat()
        rows.append(f"{file.relative_to(path)} {facts.st_size} {facts.st_mtime_ns}")
    return sha256("\n".join(rows).encode()).hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    return sorted([*path.glob("*.h5"), *path.glob("*/*.h5")])  # `**` would not follow links to folders
