"""What a training says when it loses its place: the disk is full, or the run folder is gone or another's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from mrirecon.errors import InputError, WorkFailedError
from mrirecon.files import is_disk_full
from mrirecon.runs import RunFolder, RunLock
from mrirecon.training.checkpoints.hashes import load_checkpoint


@contextmanager
def needing_room(run: RunFolder, trainer: pl.Trainer) -> Iterator[None]:
    """Around what writes into a run folder: a full disk, or a folder that is gone, is told in one line.

    Raises:
        WorkFailedError: The disk is full; it says what is kept. Or the folder is gone.
    """
    try:
        yield
    except OSError as error:
        if not run.config.is_file():
            raise _gone(run, trainer.global_step) from error
        if not is_disk_full(error) or not _may_be_in(run.path, error.filename):
            raise
        raise _full_disk(run, trainer.global_step) from error


class StillOurs(pl.Callback):
    """Stops a training before it writes into a run that another command has taken over meanwhile."""

    def __init__(self, run: RunFolder, lock: RunLock | None) -> None:
        self.run, self.lock = run, lock

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Raise a WorkFailedError where the lock is another's."""
        if self.lock and self.lock.is_lost:
            raise WorkFailedError(
                f"{self.run.path} was taken over by another command at step {trainer.global_step}, as this one had "
                "given no sign of life for long; this one ends here"
            )


def _may_be_in(folder: Path, file: Any) -> bool:
    """Not where the file that found no room is known to be elsewhere."""
    return not isinstance(file, str) or Path(file).absolute().is_relative_to(folder.absolute())


def _gone(run: RunFolder, step: int) -> WorkFailedError:
    return WorkFailedError(
        f"{run.path} was deleted or moved away while it was trained, at step {step}: nothing more can be saved; if it "
        "was moved, go on with mrirecon train --resume and its new place, else train again"
    )


def _full_disk(run: RunFolder, step: int) -> WorkFailedError:
    begin = f"no room in {run.path} at step {step}"
    try:
        kept = load_checkpoint(run.checkpoint("last"))["global_step"]
    except (InputError, KeyError):
        return WorkFailedError(
            f"{begin}; there is no checkpoint yet; make room and start again: mrirecon train -c {run.config}"
        )
    return WorkFailedError(
        f"{begin}; the checkpoint of step {kept} is kept; make room and go on with: mrirecon train --resume {run.path}"
    )
