"""Open HDF5 files from strangers, or say in one line why not, and keep a few of them open.

No handle crosses a fork or a pickle. What stands behind an open file may change: HDF5 gives zeros for what a shorter
file lacks. So readers compare the state of the file, its size and time of change, with
what it was before it was checked.
"""

import os
import re
import stat
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from mrirecon.data.hdf5.limits import require_room
from mrirecon.data.hdf5.soundness import check_heaps, find_dataset, require_sound
from mrirecon.errors import DataChangedError, InputError, why_unread

_LIMIT = 16  # a data set has more files than a process may hold open (often 1024, times the workers)
_open: OrderedDict[Path, h5py.File] = OrderedDict()
_owner = os.getpid()


class FileState(NamedTuple):
    """Size and time of change of a file, by which it is known to be the same; both 0 where there is none."""

    n_bytes: int
    changed_ns: int  # time of change, since 1970

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The state of the file at `path`, behind a link too."""
        try:
            found = path.stat()
        except OSError:  # a link to nothing: reading it says so in the words of all unreadable files
            return cls(0, 0)
        return cls(found.st_size, found.st_mtime_ns)

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


_OF_LOCKS = re.compile(r"\block")  # "unable to lock file", "file locking flag"; a truncated file is told with "sblock"


def open_to_read(path: Path) -> h5py.File:
    """Open a file, without a lock where that cannot be had: some file systems have none, or a writer holds it.

    HDF5's variable HDF5_USE_FILE_LOCKING wins over this (https://docs.h5py.org/en/stable/high/file.html).
    """
    try:
        return h5py.File(path, "r")  # as others open it: in one process HDF5 refuses both ways for one file
    except OSError as error:
        if not _OF_LOCKS.search(str(error)):
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
    """In a forked process: drop the handles it was born with, which share file offsets and library state.

    A child has the open files in common with its parent (https://pubs.opengroup.org/onlinepubs/9699919799/functions/fork.html).
    """
    global _owner  # noqa: PLW0603 - the table belongs to one process
    if _owner != os.getpid():
        _open.clear()
        _owner = os.getpid()


_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are no text, ends of lines


def readable(text: str) -> str:
    """`text` on one line: a control character could rewrite a terminal, half a character cannot be written at all."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(letter) in _UNPRINTABLE else letter for letter in text)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into one line that starts with the file's name."""
    name = readable(name)
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {readable(str(error))}") from error
    except MemoryError as error:
        raise InputError(f"{name}: there is no memory to read it; free some, or copy the file again") from error
    except (Exception, SystemError) as error:  # a damaged file makes h5py raise anything
        if refused := why_unread(error):
            raise InputError(f"{name}: {refused}") from error
        reason = readable(" ".join(str(error).split())).strip("'")[:200]
        raise InputError(f"{name}: damaged, HDF5 says: {reason or type(error).__name__}; copy it again") from error


@contextmanager
def opened(path: Path, name: str) -> Iterator[h5py.File]:
    """The file, sound as far as that shows without reading samples; what goes wrong becomes one line.

    Raises:
        InputError: `<name>: what is wrong; what to do`.
    """
    with reading(name):
        if readable(name) != name:
            raise InputError("the file's name holds a character that cannot be printed; rename it")
        close(path)  # it may have been replaced since it was last opened
        _require_hdf5(path)
        try:
            file = open_to_read(path)
        except OSError as error:
            if "truncated" in str(error):
                raise InputError(f"is truncated ({path.stat().st_size} bytes are there); copy it again") from None
            raise
        with file:
            check_heaps(path, file)
            yield file


def read_slice(path: Path, name: str, key: str, i: int, checked: FileState) -> np.ndarray:
    """Read slice `i` of the data set `key` `(slices, ...)`, as stored.

    Args:
        path: The file.
        name: Starts every error.
        key: Name of the data set.
        i: Number of the slice, which must be there.
        checked: State of the file when it was checked.

    Raises:
        InputError: It cannot be read.
        DataChangedError: The file is not what was checked.
    """
    try:
        with reading(name):
            dataset = find_dataset(handle(path), key)
            if dataset is None:
                raise InputError(f"'{key}' changed while it was in use")
            values: np.ndarray = dataset[i]
            return values
    finally:  # after it, so that no samples of a changed file come out; of an error that is the cause
        require_unchanged(path, name, checked)


def read_whole(
    path: Path, name: str, key: str, shape: tuple[int, ...], kinds: str, checked: FileState
) -> np.ndarray | None:
    """Read the whole data set `key`, which few files have, as stored; None where there is none.

    Args:
        path: The file.
        name: Starts every error.
        key: Name of the data set.
        shape: What it must have.
        kinds: Letters of numpy's `dtype.kind` that it may be of.
        checked: State of the file when it was checked.

    Raises:
        InputError: It is of another shape or type, or cannot be read.
        DataChangedError: The file is not what was checked.
    """
    try:
        with reading(name):
            dataset = find_dataset(handle(path), key)
            if dataset is None:
                return None
            if dataset.shape != shape or dataset.dtype.kind not in kinds:
                raise InputError(
                    f"'{key}' is {dataset.dtype} of shape {dataset.shape}; it must be of shape {shape} and of numbers "
                    "that fit: write it anew, or remove it"
                )
            require_room(key, dataset.nbytes)
            values: np.ndarray = dataset[()]
            return values
    finally:
        require_unchanged(path, name, checked)


def read_image(path: Path, name: str, key: str, i: int, checked: FileState, dtype: type[np.floating]) -> np.ndarray:
    """Read slice `i` of the images `(slices, h, w)` in the data set `key`: `(h, w)` of `dtype`, neither cropped nor
    clamped.

    Raises:
        InputError: It cannot be read, or holds NaN, infinity or huge values.
        DataChangedError: The file is not what was checked.
    """
    with np.errstate(over="ignore"):  # an overflow is found as infinity below
        values = read_slice(path, name, key, i, checked).astype(dtype, copy=False)
    with reading(name):
        require_sound(values, key, i)
    return values


def _require_hdf5(path: Path) -> None:
    """Raise an InputError for what cannot be an HDF5 file, or is one behind something else.

    A file begins with the signature of the HDF5 file format specification 3.0, section II.A.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise InputError("is a directory, not a file; rename or remove it")
        if not stat.S_ISREG(kind):  # opening a pipe waits for ever
            raise InputError("is a pipe or a device, not a file; remove it")
        with path.open("rb") as raw:
            start = raw.read(len(_HDF5_SIGNATURE))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("does not exist (or is a broken link); restore or remove it") from None
    except PermissionError:
        raise InputError("permission denied; make it readable (chmod u+r)") from None
    if not start:
        raise InputError("is empty (0 bytes); copy it again")
    if start != _HDF5_SIGNATURE:
        if h5py.is_hdf5(path):
            raise InputError("has a block of foreign bytes before its data (a user block); remove it (h5unjam)")
        raise InputError("is not an HDF5 file; remove it, or give it another ending than .h5")
