"""Volumes that the works of one process share, so that each file is opened, understood and checked once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mrirecon.data.handles import close
from mrirecon.data.volume import Volume

_Key = tuple[Path, Path | None]  # file, root of its name


class _Shared(NamedTuple):
    volume: Volume
    state: tuple[int, int]  # size and time of change of the file that it was made of


_shared: dict[_Key, _Shared] | None = None  # None: nothing is shared


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
    known, state = _shared.get((path, root)), _state(path)
    if known is None or known.state != state:
        close(path)  # the handle may be of the file that stood there before
        known = _shared[path, root] = _Shared(Volume(path, root), state)
    return known.volume


def _state(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # a link to nothing: reading it says so in the words of all unreadable files
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
