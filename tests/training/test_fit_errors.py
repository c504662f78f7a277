"""What goes wrong before the first batch of a resumed training is the checkpoint's fault, later it is not."""

import pytest
import torch

from mrirecon.errors import DivergedError, InputError
from mrirecon.workflows.fit import FirstBatch, resuming


def after(first):
    first.on_train_batch_end()


@pytest.mark.parametrize(
    ("checkpoint", "step", "error", "raised"),
    [
        ("last.ckpt", None, TypeError("'bool' is\nnot iterable"), InputError),
        ("last.ckpt", after, TypeError("of the work"), TypeError),
        (None, None, TypeError("of the work"), TypeError),
        ("last.ckpt", None, OSError(28, "No space left"), OSError),
        ("last.ckpt", None, torch.OutOfMemoryError("no memory"), torch.OutOfMemoryError),
        ("last.ckpt", None, DivergedError("diverged"), DivergedError),
        ("last.ckpt", None, KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_who_is_blamed(checkpoint, step, error, raised):
    first = FirstBatch()
    with pytest.raises(raised) as caught, resuming(checkpoint, first):
        if step:
            step(first)
        raise error
    if raised is InputError:
        assert str(caught.value) == (
            "last.ckpt holds no state that this run can go on from (TypeError: 'bool' is not iterable); restore it, "
            "or train anew"
        )
