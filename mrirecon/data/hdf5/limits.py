"""Limit the memory that a file may ask for: the size it claims is checked before anything is allocated.

And what else the command line settles for a whole process that reads files: whether earlier checks of them count.
"""

import math
from collections.abc import Sequence

from mrirecon.errors import InputError

GIB = 2**30
MOST_SLICES = 2**20
MOST_COILS = 1024
HEADER_BYTES = 2**20  # the longest ISMRMRD headers have some 100 kB
ATTRIBUTES = 1024
ATTRIBUTE_BYTES = 2**16  # HDF5's own limit for attributes that stand in an object's header
DEFAULT_SLICE_GIB = 8.0
NO_CACHE = "--no-cache"
_slice_gib = [DEFAULT_SLICE_GIB]  # of this process; its forks inherit it
_cache_is_on = [True]  # likewise


def limit_slices(gib: str | float) -> None:
    """Allow slices of so many GiB in this process; the command line calls it (`--max-slice-gib`), never a file.

    Raises:
        InputError: Not a number above 0.
    """
    try:
        value = float(gib)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"--max-slice-gib {gib}; give a number above 0, such as {DEFAULT_SLICE_GIB:g}")
    _slice_gib[0] = value


def slice_limit() -> float:
    """GiB that a slice may take in this process."""
    return _slice_gib[0]


def switch_cache_off() -> None:
    """Neither read nor keep what checks find; the command line calls it (`--no-cache`)."""
    _cache_is_on[0] = False


def is_cache_on() -> bool:
    """Return whether findings of checks are kept and those of earlier commands used (`data.folders.cache`)."""
    return _cache_is_on[0]


def limit_words() -> list[str]:
    """The settings of this process as words of a command line: for those that are started to work for this one."""
    limit = [] if _slice_gib[0] == DEFAULT_SLICE_GIB else [f"--max-slice-gib={_slice_gib[0]!r}"]
    return limit + [NO_CACHE] * (not _cache_is_on[0])


def n_bytes(shape: Sequence[int], itemsize: int) -> int:
    """Bytes of an array, exact: numpy's and h5py's own products overflow on absurd shapes."""
    return math.prod(int(n) for n in shape) * itemsize


def require_room(what: str, size: int) -> None:
    """Raise an InputError if `what` of `size` bytes is more than one slice may take."""
    if size > _slice_gib[0] * GIB:
        raise InputError(
            f"{what} takes {size / GIB:.3g} GiB in memory, more than the limit of {_slice_gib[0]:g}; "
            "raise --max-slice-gib if the file is sound, else copy it again"
        )


def require_slices(key: str, shape: Sequence[int], itemsize: int, chunk: Sequence[int] | None = None) -> None:
    """Raise an InputError unless a data set `(slices, ...)` can be read slice by slice within the limits.

    Args:
        key: Its name.
        shape: Its shape.
        itemsize: Bytes of one value, as stored.
        chunk: Shape of its chunks, which HDF5 decompresses whole; None: it has none.
    """
    if shape[0] > MOST_SLICES:
        raise InputError(f"{key} claims {shape[0]} slices, at most {MOST_SLICES} are read; copy it again")
    require_room(f"one slice of {key}", n_bytes(shape[1:], itemsize))
    if chunk:
        require_room(f"one chunk of {key}", n_bytes(chunk, itemsize))
