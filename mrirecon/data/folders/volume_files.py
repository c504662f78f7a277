"""Find the volumes of a folder, and share them between the works of one process.

Shared, each file is opened, understood and checked once.
"""

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


SIMULATE = "or make a simulated set: mrirecon data simulate OUT"


def h5_files(folder: Path) -> list[Path]:
    """The visible `.h5` entries of a folder, by name; anything else is left alone."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".h5" and not path.name.startswith("."))


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
