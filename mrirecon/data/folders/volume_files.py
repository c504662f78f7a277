"""Find the volumes of a folder, and share them between the works of one process.

Shared, each file is opened, understood and checked once.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrirecon.data.hdf5.opening import FileState, close
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError

_Key = tuple[Path, Path | None]  # file, root of its name


_shared: dict[_Key, Volume] | None = None  # None: nothing is shared


@contextmanager
def sharing_volumes() -> Iterator[None]:
    """Within it, every training and evaluation of this process gets the same `Volume` of a file.

    What a volume knows (its facts, its data range, that its samples were searched for NaN) then is read once. A file
    that changed since, by size or time, gets a new volume; listing and splitting a folder is done anew each time.
    """
    global _shared  # noqa: PLW0603 - the table belongs to one process
    outer, _shared = _shared, {} if _shared is None else _shared
    try:
        yield
    finally:
        _shared = outer


def volume_of(path: Path, root: Path | None = None) -> Volume:
    """The volume of a file, named relative to `root`; within `sharing_volumes` the one that is there already."""
    if _shared is None:
        return Volume(path, root)
    known = _shared.get((path, root))
    if known is None or known.state != FileState.of(path):
        close(path)  # the handle may be of the file that stood there before
        known = _shared[path, root] = Volume(path, root)
    return known


SPLITS = ("train", "val", "test")
_OWN = re.compile(r"^(?P<split>train|val|test)$")
_FASTMRI = re.compile(r"^(?:.*_)?(?P<kind>single|multi)coil_(?P<split>train|val|test)(?:_.*)?$")
SIMULATE = "or make a simulated set: mrirecon data simulate OUT"


def h5_files(folder: Path) -> list[Path]:
    """The visible `.h5` entries of a folder, by name; anything else is left alone."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".h5" and not path.name.startswith("."))


def split_folders(root: Path, coils: str) -> dict[str, list[Path]]:
    """The folders of each split, by name; of fastMRI's own names one kind of coils."""
    found = []
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        match = _OWN.match(path.name) or _FASTMRI.match(path.name)
        if match:
            found.append((match["split"], match.groupdict().get("kind"), path))
    kinds = {kind for _, kind, _ in found if kind}
    if len(kinds) > 1 and coils == "auto":
        names = ", ".join(path.name for *_, path in found)
        raise InputError(
            f"{root} has single-coil and multi-coil folders ({names}); choose: --coils single, multi or both"
        )
    if len(kinds) > 1 and coils != "both":
        found = [entry for entry in found if entry[1] in (None, coils)]
    groups: dict[str, list[Path]] = {}
    for split in SPLITS:
        paths = [path for name, _, path in found if name == split]
        if paths:
            groups[split] = paths
    return groups


def require_flat_or_split(folder: Path, groups: dict[str, list[Path]]) -> None:
    """Raise an InputError where `folder` has `.h5` files beside its split folders, `groups` of `split_folders`."""
    if groups and h5_files(folder):
        inside = next(iter(groups.values()))[0].name
        raise InputError(
            f"{folder} has both .h5 files and split folders ({inside}/); give one of the folders, or move the files "
            "into one"
        )


def flat_or_split_files(folder: Path) -> list[Path]:
    """List the `.h5` files of a folder, or else those of all of its split folders; empty where there are none.

    Raises:
        InputError: It has both.
    """
    groups = split_folders(folder, "both")
    require_flat_or_split(folder, groups)
    return h5_files(folder) or [file for paths in groups.values() for path in paths for file in h5_files(path)]


def require_folder(folder: Path) -> None:
    """Raise an InputError unless `folder` is a directory."""
    if folder.is_file():
        raise InputError(f"{folder} is a file; give the folder that holds the .h5 files: --data {folder.parent}")
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give a folder of fastMRI .h5 files (--data DIR), {SIMULATE}")


def list_volumes(folder: Path, root: Path | None = None) -> list[Volume]:
    """The volumes that stand directly in `folder`, named relative to `root` (itself when left out).

    Raises:
        InputError: No such folder, or none of its files is a `.h5` file.
    """
    require_folder(folder)
    volumes = [volume_of(path, root or folder) for path in h5_files(folder)]
    if not volumes:
        raise InputError(f"no .h5 file in {folder}; give a folder of fastMRI files (--data DIR), {SIMULATE}")
    return volumes
