"""Losses by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LossEntry:
    """A loss; `build` is the function (`LossInput`, **options) -> one number."""

    help: str
    build: str | Callable[..., Any]
    options: tuple[str, ...] = ()  # keys of `TrainConfig`


LOSSES: dict[str, LossEntry] = {
    "l1": LossEntry("absolute difference of normalised, clamped values", "mrirecon.training.recipe.losses:l1"),
    "mse": LossEntry("squared difference of normalised, clamped values", "mrirecon.training.recipe.losses:mse"),
    "charbonnier": LossEntry(
        "smooth l1 of normalised, clamped values", "mrirecon.training.recipe.losses:charbonnier_loss"
    ),
    "ssim": LossEntry("1 - SSIM of the images", "mrirecon.training.recipe.losses:ssim_loss"),
    "l1_ssim": LossEntry("ssim and weighted l1", "mrirecon.training.recipe.losses:l1_ssim", options=("l1_weight",)),
}
