"""Open HDF5 files of this process: a few are kept open, none crosses a fork or a pickle."""

import os
from collections import OrderedDict
from pathlib import Path

import h5py

_LIMIT = 16  # a data set has more files than a process may hold open (often 1024, times the workers)
_open: OrderedDict[Path, h5py.File] = OrderedDict()
_owner = os.getpid()


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
