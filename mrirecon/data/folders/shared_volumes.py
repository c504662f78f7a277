"""Volumes that the works of one process share, so that each file is opened, understood and checked once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrirecon.data.hdf5.handles import FileState, close
from mrirecon.data.volume import Volume

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
