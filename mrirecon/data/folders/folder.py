"""A data folder: which files are train, val and test, by patient, and which of them a configuration selects."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from mrirecon import progress, ranks
from mrirecon.config import DataConfig
from mrirecon.data.folders.check import check_layout, check_slices, check_volumes
from mrirecon.data.folders.manifest import require_same_contents, require_same_files
from mrirecon.data.folders.stage import staged
from mrirecon.data.folders.volume_files import (
    SIMULATE,
    SPLITS,
    h5_files,
    list_volumes,
    require_flat_or_split,
    require_folder,
    split_folders,
)
from mrirecon.data.images import Reference
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, unknown_name

_File = TypeVar("_File", Volume, Reference)
KINDS = ("auto", "single", "multi", "both")
_SHARE = 0.15  # of the patients, for val and for test


@dataclass
class DataFolder:
    """The volumes of a folder by split; `notes` say what a reader of results has to know."""

    root: Path
    files: list[Volume]  # of every split
    splits: dict[str, list[Volume]]
    unsplit: str = ""  # why a split is not there
    notes: list[str] = field(default_factory=list)

    @property
    def assignment(self) -> dict[str, list[str]]:
        """Names of the volumes of each split, for the record of a run."""
        return {split: [volume.name for volume in volumes] for split, volumes in self.splits.items()}

    def volumes(self, split: str) -> list[Volume]:
        """The volumes of train, val or test; all: every file.

        Raises:
            InputError: Unknown split, or one that this folder does not have.
        """
        if split == "all":
            return self.files
        if split not in SPLITS:
            raise unknown_name("split", split, (*SPLITS, "all"))
        if split not in self.splits:
            there = f"it has {', '.join(self.splits)}: make {split}/, or give one folder to split"
            reason = self.unsplit or there
            raise InputError(f"{self.root} has no split '{split}': {reason}")
        return self.splits[split]


def open_split(
    config: DataConfig, split: str, seed: int, n_volumes: int = 0, *, halve_val: bool = False
) -> list[Volume]:
    """The checked and selected volumes of one split; what the reader has to know is printed.

    Args:
        config: Folder, selection and how much is checked.
        split: train, val, test or all.
        seed: Draws the split of a flat folder and the selected volumes, unless `config` has a `split_seed`.
        n_volumes: Further reduces the selection to so many volumes, drawn by seed; 0: no.
        halve_val: See `open_folder`.

    Raises:
        InputError: The folder, the split, a selection or any file of the split is wrong; nothing was done.
    """
    folder = open_folder(config, seed, halve_val)
    volumes, notes = select(folder, config, split, seed, n_volumes)
    for note in [*folder.notes, *notes]:
        if not progress.quiet:
            print(f"note: {note}", file=sys.stderr)
    return volumes


def open_folder(config: DataConfig, seed: int, halve_val: bool = False) -> DataFolder:
    """Find the files of `config.path` and their splits: folders as they are, a flat one by patient and seed.

    The seed is `config.split_seed` where that is set. In a group of processes each calls this, and all must see the
    same files.

    With `halve_val`, the first half of a val folder by file name is val and the second is test (AlgoPerf's rule: of
    fastMRI's 199 knees 100 and 99).

    Raises:
        InputError: Nothing to read there, or a file that says nothing sound about itself.
    """
    if config.coils not in KINDS:
        raise unknown_name("coils", config.coils, KINDS)
    if not config.path:
        raise InputError(f"no data folder given; name one of fastMRI .h5 files (--data DIR), {SIMULATE}")
    root = Path(config.path)
    with ranks.agreeing():
        require_folder(root)
    inside_splits = [path for paths in split_folders(root, "both").values() for path in paths]
    files = [file for folder in (root, *inside_splits) for file in h5_files(folder)]
    require_same_files({file.relative_to(root).as_posix(): file for file in files}, str(root))
    groups = split_folders(root, config.coils)
    require_flat_or_split(root, groups)
    folder = _ready_made(root, groups, config.coils) if groups else _flat(root, config.coils, split_seed(config, seed))
    if groups and halve_val and "val" in groups:
        _halve_val(folder, [v for path in groups["val"] for v in list_volumes(path, root)], config.coils)
    elif halve_val:
        folder.notes.append("there is no val folder to halve by name; the splits are those of the default protocol")
    return folder


def _halve_val(folder: DataFolder, val: list[Volume], coils: str) -> None:
    check_layout(val)
    ordered = sorted(of_kind(val, coils), key=lambda volume: volume.path.name)
    n_val = (len(ordered) + 1) // 2
    folder.splits |= {"val": ordered[:n_val], "test": ordered[n_val:]}
    if len(ordered) < 2:
        del folder.splits["test"]
        folder.unsplit = "its val folder has one file, which cannot be halved into tune and test"
    folder.notes = [f"val is halved by name: {n_val} volumes to tune, {len(ordered) - n_val} to test"]


def select(
    folder: DataFolder, config: DataConfig, split: str, seed: int, n_volumes: int = 0
) -> tuple[list[Volume], list[str]]:
    """The volumes of `split` that `config` asks for, every one of them checked; and notes.

    Raises:
        InputError: A selection without a volume, any bad file of it, or processes of a group that see different data.
    """
    volumes = folder.volumes(split)
    check_layout(volumes)
    volumes = staged(select_volumes(volumes, config, seed, n_volumes))
    if split in ("train", "val"):
        require_targets(volumes, f"the split '{split}'", "remove them, or keep them in test/")
    notes = check_volumes(volumes, config.check, config.check_reference)
    require_same_contents(volumes, str(folder.root))
    return volumes, notes


def _flat(root: Path, coils: str, seed: int) -> DataFolder:
    files = list_volumes(root)
    check_layout(files)
    files = of_kind(files, coils)
    try:
        return DataFolder(root, files, split_by_patient(files, seed))
    except InputError as error:
        return DataFolder(root, files, {}, unsplit=f"{error} (--split all evaluates every file)")


def _ready_made(root: Path, groups: dict[str, list[Path]], coils: str) -> DataFolder:
    splits = {split: [v for path in paths for v in list_volumes(path, root)] for split, paths in groups.items()}
    if coils != "both":  # the single-coil and the multi-coil file of one fastMRI scan have one name
        for split, volumes in splits.items():
            first: dict[str, Volume] = {}
            for volume in volumes:
                other = first.setdefault(volume.path.name, volume)
                if other is not volume:
                    raise InputError(
                        f"{root}: {other.name} and {volume.name} are both in '{split}'; keep one of the two"
                    )
    folder = DataFolder(root, [v for volumes in splits.values() for v in volumes], splits)
    _replace_unreferenced_test(folder, coils)
    return folder


def _replace_unreferenced_test(folder: DataFolder, coils: str) -> None:
    """fastMRI's public test files have no reference: half of the val patients stand in for them."""
    test = folder.splits.get("test", [])
    check_layout(test)
    if not test or any(volume.has_target for volume in test):
        return
    val = folder.splits.get("val", [])
    check_layout(val)
    del folder.splits["test"]
    folder.unsplit = f"the {len(test)} files of its test folder have no reference"
    try:
        folder.splits["val"], folder.splits["test"] = halve_by_patient(of_kind(val, coils) if val else val)
    except InputError as error:
        folder.unsplit += f", and of val {error}; use --split val"
        return
    n_val, n_test = len(folder.splits["val"]), len(folder.splits["test"])
    folder.notes.append(
        f"the test files have no reference, so val is halved by patient: {n_val} volumes to tune, {n_test} to test"
    )


# ---- by patient, by seed, by what a configuration asks for


def patients(volumes: Sequence[Volume]) -> list[str]:
    """The different patients of `volumes`, sorted."""
    return sorted({volume.patient for volume in volumes})


def split_by_patient(volumes: Sequence[Volume], seed: int) -> dict[str, list[Volume]]:
    """70/15/15 % of the patients by seed, at least one in each of train, val and test.

    Raises:
        InputError: Fewer than three patients.
    """
    names = patients(volumes)
    if len(names) < 3:
        raise InputError(
            f"{len(volumes)} volumes of {len(names)} patient(s) cannot be split into train, val and test; "
            "add volumes of other patients, or make folders train/ val/ test/ of your own"
        )
    n_held_out = max(1, round(_SHARE * len(names)))
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    held_out = {"val": set(order[:n_held_out]), "test": set(order[n_held_out : 2 * n_held_out])}
    sides = held_out | {"train": set(order[2 * n_held_out :])}
    return {split: [v for v in volumes if v.patient in sides[split]] for split in SPLITS}


def halve_by_patient(volumes: Sequence[Volume]) -> tuple[list[Volume], list[Volume]]:
    """Two halves by patient, the same for every seed, so that runs of all seeds share one test set.

    Raises:
        InputError: Only one patient.
    """
    names = patients(volumes)
    if len(names) < 2:
        raise InputError("one patient cannot be halved into tune and test")
    order = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    first = set(order[: (len(order) + 1) // 2])
    return [v for v in volumes if v.patient in first], [v for v in volumes if v.patient not in first]


def draw_volumes(volumes: Sequence[Volume], n: int, seed: int) -> list[Volume]:
    """`n` volumes drawn by seed, in their old order; all for 0 or where there are no more than `n`.

    Raises:
        InputError: `n` is negative.
    """
    if n < 0:
        raise InputError(f"{n} volumes: give a positive number, or 0 for all")
    if n == 0 or n >= len(volumes):
        return list(volumes)
    chosen = np.random.default_rng(seed).permutation(len(volumes))[:n]
    return [volumes[i] for i in sorted(chosen)]


def split_seed(config: DataConfig, seed: int) -> int:
    """Return the seed that draws splits and volumes: the configuration's own, else that of the run.

    Raises:
        InputError: Below -1.
    """
    if config.split_seed < -1:
        raise InputError(f"data.split_seed is {config.split_seed}; give 0 or more, or -1 for the seed of the run")
    return seed if config.split_seed == -1 else config.split_seed


def select_volumes(volumes: list[Volume], config: DataConfig, seed: int, n_volumes: int = 0) -> list[Volume]:
    """Select volumes by coils, acquisition and number; all of them must have the slices asked for.

    Args:
        volumes: Of one split, their layout checked.
        config: The selection.
        seed: Draws volumes where fewer are asked for than there are, unless `config` has a `split_seed`.
        n_volumes: Draws again, so many of the selected; 0: keeps all.

    Raises:
        InputError: A kind, acquisition or slice that is not there.
    """
    volumes = of_kind(volumes, config.coils)
    volumes = of_acquisitions(volumes, config.acquisition)
    seed = split_seed(config, seed)
    volumes = draw_volumes(draw_volumes(volumes, config.volumes, seed), n_volumes, seed)
    check_slices(volumes, config.slices)
    return volumes


def of_kind(volumes: list[Volume], coils: str) -> list[Volume]:
    """One kind of coils; a folder may not mix them, as their images are not the same thing."""
    single = [volume for volume in volumes if volume.single_coil]
    multi = [volume for volume in volumes if not volume.single_coil]
    if coils == "auto" and single and multi:
        raise InputError(
            f"single-coil ({single[0].name}, {len(single)} in all) and multi-coil files ({multi[0].name}, "
            f"{len(multi)} in all) stand together; choose: --coils single, multi or both"
        )
    kept = {"single": single, "multi": multi}.get(coils, volumes)
    if not kept:
        raise InputError(f"none of the {len(volumes)} files is {coils}-coil; leave --coils out")
    return kept


def of_acquisitions(files: Sequence[_File], wanted: Sequence[str]) -> list[_File]:
    """Return the volumes or references of the `wanted` acquisitions, in their order; all where none is named.

    Raises:
        InputError: None is of a name that is wanted.
    """
    present = sorted({file.acquisition for file in files})
    for name in wanted:
        if name not in present:
            raise unknown_name("acquisition", name, present)
    return [file for file in files if not wanted or file.acquisition in wanted]


def require_targets(volumes: Sequence[Volume], needed_by: str, advice: str) -> None:
    """Raise an InputError for the first of the volumes that has no reference image.

    Args:
        volumes: All that must have one.
        needed_by: What needs it, such as "evaluation".
        advice: What to do.
    """
    missing = [volume.name for volume in volumes if not volume.has_target]
    if missing:
        raise InputError(
            f"{missing[0]}: has no reference image, which {needed_by} needs ({len(missing)} of {len(volumes)} files "
            f"lack it); {advice}"
        )
