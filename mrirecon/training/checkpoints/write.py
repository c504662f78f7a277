"""Write checkpoints: verified before they count, and never without a sound one in the folder.

A new `last` is written beside the old one, synced, read back and compared; then the old one becomes `previous`, then
the new one takes its name. Killed at any moment, the folder holds a `last` or a `previous` that its hash accepts.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from mrirecon.errors import WorkFailedError
from mrirecon.runs import RunFolder
from mrirecon.training.checkpoints.read import (
    digest_of,
    hash_file,
    load_checkpoint,
    opened,
    sound_digest,
    write_listed,
)

AnyPath = str | os.PathLike[str]
Writer = Callable[[Any], object]  # gets a file to write into


class CheckpointFiles(CheckpointIO):
    """Lightning's way to the checkpoints of a run, each with its SHA-256 beside it; the one before `last` is kept.

    Lightning saves on the first process alone and loads on all.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def save_checkpoint(self, checkpoint: dict[str, Any], path: AnyPath, storage_options: Any = None) -> None:
        """Write `checkpoint`.

        Raises:
            WorkFailedError: The disk does not give back what was written.
            OSError: It cannot be written, on a full disk for example; what was there is kept.
        """
        self._publish(lambda file: torch.save(checkpoint, file), Path(path))

    def load_checkpoint(
        self, path: AnyPath, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read one; always without running anything in it, and to the CPU.

        Raises:
            InputError: It is missing, damaged or does not match its hash.
        """
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: AnyPath) -> None:
        """Remove one, and its hash after it."""
        Path(path).unlink(missing_ok=True)
        hash_file(Path(path)).unlink(missing_ok=True)

    def copy_best(self) -> None:
        """Make `last` a copy of `best`."""
        with opened(self.run.checkpoint("best")) as best:
            self._publish(lambda file: shutil.copyfileobj(best, file), self.run.checkpoint("last"))

    def drop_previous(self) -> None:
        """Remove `previous`, for a run that is done has nothing to go back to."""
        self.remove_checkpoint(self.run.checkpoint("previous"))

    def _publish(self, write: Writer, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)  # not its parents: a run folder that was deleted does not come back
        for left in self.run.checkpoints.glob(".*.tmp"):  # of a process that was killed
            left.unlink(missing_ok=True)
        publish(write, path, self.run.checkpoint("previous") if path == self.run.checkpoint("last") else None)


class _Hashing:
    """A file that is hashed while it is written."""

    def __init__(self, handle: BufferedWriter) -> None:
        self.handle, self.sha256 = handle, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.handle.write(data)

    def flush(self) -> None:
        self.handle.flush()


def publish(write: Writer, path: Path, keep: Path | None = None) -> None:
    """Make what `write` writes the file at `path`; a sound file that is there becomes `keep`.

    Raises:
        WorkFailedError, OSError: See `CheckpointFiles.save_checkpoint`.
    """
    temporary = _temporary(path)
    try:
        digest = _write(write, temporary)
        _require(digest, temporary, path)
        before = sound_digest(path)
        if keep and before:  # a damaged one must not take the place of the sound one before it
            _link(path, _temporary(keep))
            _take_place(_temporary(keep), keep, before)
        _take_place(temporary, path, digest, before)
    finally:
        temporary.unlink(missing_ok=True)
        if keep:
            _temporary(keep).unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _take_place(temporary: Path, path: Path, digest: str, old: str | None = None) -> None:
    """Rename; where there is an `old` content to be kept until then, both are accepted."""
    both = [digest, old] if old and old != digest else [digest]
    write_listed(path, both)
    if len(both) > 1:
        _sync_folder(path.parent)
    temporary.replace(path)
    _sync_folder(path.parent)
    if len(both) > 1:
        write_listed(path, [digest])


def _write(write: Writer, path: Path) -> str:
    """Write and sync; return the SHA-256 of what was to be written."""
    with path.open("wb") as handle:
        file = _Hashing(handle)
        try:
            write(file)
        except RuntimeError as error:  # torch ends its archive after a failed write, and tells of that failure
            raise error.__context__ or error from None
        handle.flush()
        os.fsync(handle.fileno())
        if hasattr(os, "posix_fadvise"):  # so that the disk is read back and not the memory
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return file.sha256.hexdigest()


def _require(digest: str, temporary: Path, path: Path) -> None:
    with temporary.open("rb") as handle:
        if digest_of(handle) != digest:
            raise WorkFailedError(
                f"{path} reads back other than it was written: the disk may be failing; the checkpoint before it is "
                "kept; go on with the run on another disk"
            )


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copyfile(source, target)  # file systems without hard links
        _sync(target)


def _sync_folder(folder: Path) -> None:
    """Bring renames to the disk; some network file systems have no such call."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
