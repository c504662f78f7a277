"""Open an HDF5 file from a stranger, or say in one line why not."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from mrirecon.data.hdf5.attributes import readable
from mrirecon.data.hdf5.handles import close, open_to_read
from mrirecon.data.hdf5.heaps import check_heaps
from mrirecon.errors import InputError
from mrirecon.refusals import why_unread

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


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
        with _open(path) as file:
            check_heaps(path, file)
            yield file


def _require_hdf5(path: Path) -> None:
    """Raise an InputError for what cannot be an HDF5 file, or is one behind something else."""
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


def _open(path: Path) -> h5py.File:
    try:
        return open_to_read(path)
    except OSError as error:
        if "truncated" in str(error):
            raise InputError(f"is truncated ({path.stat().st_size} bytes are there); copy it again") from None
        raise
