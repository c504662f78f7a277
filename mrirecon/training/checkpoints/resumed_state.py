"""A checkpoint that is sound as a file may still hold a state that no training was in: an error of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch

from mrirecon.errors import InputError, Stopped, WorkFailedError

_OTHER = (InputError, WorkFailedError, Stopped, OSError, MemoryError, torch.OutOfMemoryError)  # not the checkpoint's


class FirstBatch(pl.Callback):
    """Notes where a training began, and that a batch was trained on: the state that it went on from was one."""

    def __init__(self) -> None:
        self.is_done, self.step = False, 0

    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """The number of steps that were done before."""
        self.step = trainer.global_step

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """The first one, or a later one."""
        self.is_done = True


@contextmanager
def going_on(checkpoint: str | None, first: FirstBatch) -> Iterator[None]:
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
