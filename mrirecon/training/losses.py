"""Losses on normalised, clamped values, always in single precision."""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mrirecon.classpaths import resolve_class
from mrirecon.errors import unknown_name

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {"l1": F.l1_loss, "mse": F.mse_loss}


def make_loss(loss: str | Mapping[str, Any] | Loss) -> Loss:
    """A loss by name, {class_path, init_args} or callable (prediction, target) -> scalar.

    Raises:
        InputError: Unknown name.
    """
    if callable(loss):
        return loss
    if isinstance(loss, str) and "." not in loss:
        if loss not in LOSSES:
            raise unknown_name("loss", loss, LOSSES, "Or give {class_path: torch.nn.HuberLoss}.")
        return LOSSES[loss]
    return resolve_class(loss)()
