"""Losses on normalised, clamped values, always in single precision."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mrirecon.classpaths import construct
from mrirecon.errors import InputError, unknown_name

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {"l1": F.l1_loss, "mse": F.mse_loss}


def make_loss(loss: str | Mapping[str, Any] | Loss) -> Loss:
    """A loss by name, {class_path, init_args} or callable (prediction, target) -> scalar.

    Raises:
        InputError: Unknown name, or a class whose objects do not map (prediction, target) to one number.
    """
    if callable(loss):
        return loss
    if isinstance(loss, str) and "." not in loss:
        if loss not in LOSSES:
            raise unknown_name("loss", loss, LOSSES, "Or give {class_path: torch.nn.HuberLoss}.")
        return LOSSES[loss]
    made = construct(loss)
    _require_loss(made, loss)
    return made


def _require_loss(made: Any, name: object) -> None:
    image = torch.zeros(1, 2, 2)
    try:
        value = made(image, image)
    except Exception as error:
        raise InputError(f"{name} is no loss of (prediction, target): {error}") from None
    if not isinstance(value, Tensor) or value.ndim:
        raise InputError(f"loss {name} does not give one number per batch; leave its reduction at 'mean'")
