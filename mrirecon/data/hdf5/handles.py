"""Open HDF5 files of this process: a few are kept open, none crosses a fork or a pickle.

What stands behind an open file may change: HDF5 gives zeros for what a shorter file lacks. So readers compare the
state of the file, its size and time of change, with what it was before it was checked.
"""

import os
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import h5py

from mrirecon.errors import DataChangedError

_LIMIT = 16  # a data set has more files than a process may hold open (often 1024, times the workers)
_open: OrderedDict[Path, h5py.File] = OrderedDict()
_owner = os.getpid()


class FileState(NamedTuple):
    """By which a file is known to be the same; both 0 where there is none."""

    n_bytes: int
    changed_ns: int  # time of change, since 1970

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The state of the file at `path`, behind a link too."""
        try:
            stat = path.stat()
        except OSError:  # a link to nothing: reading it says so in the words of all unreadable files
            return cls(0, 0)
        return cls(stat.st_size, stat.st_mtime_ns)

    @property
    def changed(self) -> str:
        """The time of change for a reader, here and to the second."""
        return datetime.fromtimestamp(self.changed_ns / 1e9).astimezone().isoformat(" ", "seconds")


def require_unchanged(path: Path, name: str, checked: FileState) -> None:
    """Raise a DataChangedError that starts with `name` where the file's state is not that of when it was checked."""
    if (now := FileState.of(path)) == checked:
        return
    if now == (0, 0):
        how = "it is gone"
    elif now.n_bytes != checked.n_bytes:
        how = f"it had {checked.n_bytes} bytes and has {now.n_bytes}"
    else:
        how = f"it was last written at {checked.changed}, now at {now.changed}"
    raise DataChangedError(
        f"{name}: changed after it was checked, {how}; put it back, or start again with what is there"
    )


def open_to_read(path: Path) -> h5py.File:
    """Open a file, without a lock where that cannot be had: some file systems have none, or a writer holds it.

    HDF5's variable HDF5_USE_FILE_LOCKING wins over this.
    """
    try:
        return h5py.File(path, "r")  # as others open it: in one process HDF5 refuses both ways for one file
    except OSError as error:
        if "lock" not in str(error):
            raise
        return h5py.File(path, "r", locking=False)


def handle(path: Path) -> h5py.File:
    """The open file of `path`, opened now if this process has not done so or has closed it since."""
    forget_those_of_the_parent()
    file = _open.pop(path, None)
    if file is None:
        file = open_to_read(path)
    _open[path] = file
    while len(_open) > _LIMIT:
        _open.popitem(last=False)[1].close()
    return file


def close(path: Path) -> None:
    """Close the file of `path`, if it is open here."""
    file = _open.pop(path, None)
    if file is not None and _owner == os.getpid():
        file.close()


def forget_those_of_the_parent() -> None:
    """In a forked process: drop the handles it was born with, which share file offsets and library state."""
    global _owner  # noqa: PLW0603 - the table belongs to one process
    if _owner != os.getpid():
        _open.clear()
        _owner = os.getpid()
