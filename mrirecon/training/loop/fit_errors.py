"""Errors around a fit, told in one line: a full disk, a run folder that is gone or taken, a state of no training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from mrirecon.errors import InputError, Stopped, WorkFailedError
from mrirecon.files import is_disk_full
from mrirecon.runs import RunFolder, RunLock
from mrirecon.training.checkpoints.read import load_checkpoint


@contextmanager
def needing_room(run: RunFolder, trainer: pl.Trainer) -> Iterator[None]:
    """Tell a full disk, or a run folder that is gone, in one line; around what writes into it.

    Raises:
        WorkFailedError: The disk is full; it says what is kept. Or the folder is gone.
    """
    try:
        yield
    except OSError as error:
        if not run.config.is_file():
            raise WorkFailedError(
                f"{run.path} was deleted or moved away while it was trained, at step {trainer.global_step}: nothing "
                "more can be saved; if it was moved, go on with mrirecon train --resume and its new place, else train "
                "again"
            ) from error
        file = error.filename  # where it is known
        is_elsewhere = isinstance(file, str) and not Path(file).absolute().is_relative_to(run.path.absolute())
        if is_elsewhere or not is_disk_full(error):
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


_OTHER = (InputError, WorkFailedError, Stopped, OSError, MemoryError, torch.OutOfMemoryError)  # not the checkpoint's


class FirstBatch(pl.Callback):
    """Notes at which step a training began, and that a batch was trained on: the resumed state was sound."""

    def __init__(self) -> None:
        self.is_done, self.step = False, 0

    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.is_done = True


@contextmanager
def resuming(checkpoint: str | None, first: FirstBatch) -> Iterator[None]:
    """Report what goes wrong up to the first batch as the fault of the checkpoint that a training goes on from.

    Raises:
        InputError: In place of any error that says nothing to the user.
    """
    try:
        yield
    except _OTHER:
        raise
    except Exception as error:
        if checkpoint is None or first.is_done:
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"{checkpoint} holds no state that this run can go on from ({reason}); restore it, or train anew"
        ) from error
