"""Losses of a batch, always in single precision: on normalised, clamped values or on images."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrirecon.classpaths import construct
from mrirecon.errors import InputError
from mrirecon.tables.entry import builder, named
from mrirecon.tables.losses import LOSSES

CHARBONNIER_EPS = 1e-3
Pairwise = Callable[[Tensor, Tensor], Tensor]  # (prediction, target) -> scalar


class LossInput(NamedTuple):
    """The images `(batch, height, width)` that a loss may look at, and their data range."""

    prediction: Tensor  # minus the input's mean, over its standard deviation
    target: Tensor  # the same of the reference, clamped to 6 standard deviations
    image: Tensor  # the prediction in the units of the reference
    reference: Tensor  # as stored, unclamped
    data_range: Tensor  # (batch,): maximum of the reference over each slice's volume


Loss = Callable[[LossInput], Tensor]


def charbonnier(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the mean of `sqrt(difference^2 + eps^2)`, eps 1e-3, of two images (batch, height, width).

    Charbonnier et al. (1994), for images Lai et al. (2017).
    """
    return ((prediction - target).square() + CHARBONNIER_EPS**2).sqrt().mean()


def ssim_loss(batch: LossInput) -> Tensor:
    """Compute 1 - SSIM of images (batch, height, width) against the unclamped reference (Wang et al. 2004).

    It is fastMRI's `SSIMLoss`: windows of 7 x 7 pixels, uniform.

    Both are divided by the data range first: the same number, but single precision does not underflow in the squares.
    """
    from fastmri.losses import SSIMLoss

    scale = batch.data_range.to(batch.image)[:, None, None]
    similarity = SSIMLoss().to(batch.image.device)
    image, reference = (x.div(scale).unsqueeze(1) for x in (batch.image, batch.reference))
    return similarity(image, reference, torch.ones_like(scale[:, 0, 0]))


def normalised(loss: Pairwise) -> Loss:
    """Make a loss of (batch, height, width) of `loss` of the values normalised and clamped as for fastMRI's U-Net."""
    return lambda batch: loss(batch.prediction, batch.target)


def l1(batch: LossInput) -> Tensor:
    """Compute the mean absolute difference of normalised, clamped values (batch, height, width), as fastMRI's U-Net."""
    return F.l1_loss(batch.prediction, batch.target)


def mse(batch: LossInput) -> Tensor:
    """Compute the mean squared difference of normalised, clamped values (batch, height, width).

    Equals `torch.nn.MSELoss` on them.
    """
    return F.mse_loss(batch.prediction, batch.target)


def charbonnier_loss(batch: LossInput) -> Tensor:
    """Compute `charbonnier` (Charbonnier et al. 1994) of normalised, clamped values (batch, height, width)."""
    return charbonnier(batch.prediction, batch.target)


def l1_ssim(batch: LossInput, l1_weight: float) -> Tensor:
    """Compute `(1 - SSIM) + l1_weight * L1`: of images, and of normalised, clamped values, (batch, height, width).

    A mixture of both is that of Zhao et al. (2017), who use the multi-scale SSIM.
    """
    return ssim_loss(batch) + l1_weight * l1(batch)


def make_loss(loss: str | Mapping[str, Any] | Pairwise, l1_weight: float = 0.01) -> Loss:
    """Make a loss of a name, {class_path, init_args} or callable (prediction, target) -> scalar on normalised values.

    Args:
        loss: The name or what makes it.
        l1_weight: Weight of l1 in l1_ssim.

    Raises:
        InputError: Unknown name, or a class whose objects do not map (prediction, target) to one number.
    """
    if l1_weight < 0:
        raise InputError(f"l1_weight is {l1_weight:g}; it must not be negative")
    if callable(loss):
        return normalised(loss)
    if isinstance(loss, str) and "." not in loss:
        entry = named(LOSSES, loss, "loss", "Or give {class_path: torch.nn.HuberLoss}.")
        given = {"l1_weight": l1_weight}
        return partial(builder(entry.build), **{key: given[key] for key in entry.options})
    made = construct(loss)
    _require_loss(made, loss)

    def on_device(prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of (batch, height, width), its own tensors on the prediction's device."""
        value: Tensor = (made.to(prediction.device) if isinstance(made, nn.Module) else made)(prediction, target)
        return value

    return normalised(on_device)


def _require_loss(made: Any, name: object) -> None:
    image = torch.linspace(-6, 6, 4).reshape(1, 2, 2)  # the range of normalised, clamped values
    try:
        value = made(image.clone(), image)
    except Exception as error:
        raise InputError(f"{name} is no loss of (prediction, target): {error}") from None
    if not isinstance(value, Tensor) or value.ndim:
        raise InputError(f"loss {name} does not give one number per batch; leave its reduction at 'mean'")
