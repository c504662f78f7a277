"""Node-local copies of the files that a command reads: made and verified once on each node, removed at its end."""

import copy
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from mrirecon import ranks
from mrirecon.data.hdf5.opening import close
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.progress import say

_BLOCK = 1 << 23
_stage: Path | None = None  # this command's folder on this node; None: nothing is staged


@contextmanager
def staging(folder: str) -> Iterator[None]:
    """Within it, `staged` copies to a folder of its own below `folder`, which is removed at the end; empty: nothing is.

    Variables such as $TMPDIR are those of the node. All processes of a group call this; the first one of each node
    copies and removes.

    Raises:
        InputError: `folder` is no folder that can be written to.
    """
    global _stage  # noqa: PLW0603 - it belongs to one process
    if not folder:
        yield
        return
    place = os.path.expandvars(folder)
    if "$" in place:
        raise InputError(f"--data.stage {folder} names a variable that is not set here; name a local folder")
    token = ranks.from_first(lambda: uuid4().hex[:12])
    # a node's own name, should the folder be one that nodes share
    _stage = Path(place).absolute() / f"mrirecon-{token}-{os.environ.get('SLURMD_NODENAME') or socket.gethostname()}"
    try:
        if _copies():
            try:
                _stage.mkdir(mode=0o700)
            except OSError as error:
                raise InputError(
                    f"cannot write to --data.stage {place}: {error.strerror}; name another folder"
                ) from None
        ranks.barrier()
        yield
        ranks.barrier()  # nobody reads any more
    finally:
        if _copies():
            shutil.rmtree(_stage, ignore_errors=True)
        _stage = None


def staged(volumes: Sequence[Volume]) -> list[Volume]:
    """These volumes, read from copies with their names, sizes and times of change; outside of `staging` themselves.

    Raises:
        InputError: There is no room for them.
        WorkFailedError: A copy is not what was read, or a file changed meanwhile.
    """
    if _stage is None:
        return list(volumes)
    places = [_stage / volume.name for volume in volumes]
    if _copies():
        missing = [(volume, place) for volume, place in zip(volumes, places, strict=True) if not place.exists()]
        needed = sum(volume.path.stat().st_size for volume, _ in missing)
        free = shutil.disk_usage(_stage).free
        if needed > free:
            raise InputError(
                f"--data.stage {_stage.parent} has {free / 2**30:.1f} GiB free, the files take {needed / 2**30:.1f}; "
                "name a larger folder, or leave it out"
            )
        for volume, place in missing:
            _copy(volume, place)
        if missing:
            say(f"staged      {len(missing)} files, {needed / 2**30:.2f} GiB, in {_stage}")
    ranks.barrier()
    found = [copy.copy(volume) for volume in volumes]
    for volume, place in zip(found, places, strict=True):
        volume.path = place
    return found


def _copies() -> bool:
    """This process is the first one of its node."""
    return not ranks.in_group() or os.environ.get("LOCAL_RANK", "0") == "0"


def _copy(volume: Volume, place: Path) -> None:
    """A copy that is read back, with the times of the file, which say that it is the same."""
    before = volume.path.stat()
    place.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    close(volume.path)
    try:
        with volume.path.open("rb") as source, place.open("xb") as target:
            while block := source.read(_BLOCK):
                digest.update(block)
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
        os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
        with place.open("rb") as handle:
            is_same = hashlib.file_digest(handle, "sha256").digest() == digest.digest()
    except OSError as error:
        raise WorkFailedError(f"{volume.name} cannot be copied to {place.parent}: {error.strerror}") from None
    after = volume.path.stat()
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise WorkFailedError(f"{volume.path} changed while it was copied; wait until it is written, then start again")
    if not is_same:
        raise WorkFailedError(f"the copy {place} is not what was read; name another folder as --data.stage")
