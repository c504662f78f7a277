"""What a training says when the disk is full."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl

from mrirecon.errors import InputError, WorkFailedError
from mrirecon.files import is_disk_full
from mrirecon.runs import RunFolder
from mrirecon.training.checkpoint_hashes import load_checkpoint


@contextmanager
def needing_room(run: RunFolder, trainer: pl.Trainer) -> Iterator[None]:
    """Around what writes into a run folder: a full disk is told in one line.

    Raises:
        WorkFailedError: The disk is full; it says what is kept.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise _full_disk(run, trainer.global_step) from error


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
