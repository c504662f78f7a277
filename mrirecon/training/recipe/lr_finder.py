"""The learning rate range test (Smith 2017): the loss while the rate grows from step to step until it diverges."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch

from mrirecon.data.samples import Sample, to_device
from mrirecon.errors import WorkFailedError
from mrirecon.training.module import ReconModule

LOW, HIGH, N_STEPS = 1e-6, 10.0, 140  # 20 steps for each factor of 10
_SMOOTHING = 0.9  # weight of the past in the running mean of the loss
_DIVERGED = 3.0  # times the first loss, above the best running mean
_MARGIN = 10.0  # below the rate of the least loss, where the test is about to diverge


class RangeTest(NamedTuple):
    """Losses of a range test, and the rate it suggests."""

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    lr: float  # a tenth of the rate with the least smoothed loss
    lr_diverged: float | None  # where the test ended early


def lr_of_step(step: int) -> float:
    """Return the rate of a step, which grows by the same factor at every step (in Smith 2017 by the same amount)."""
    return LOW * (HIGH / LOW) ** (step / (N_STEPS - 1))


def range_test(
    module: ReconModule,
    batches: Iterable[Sample],
    accumulate: int,
    clip: float,
    autocast: Callable[[], AbstractContextManager],
) -> RangeTest:
    """Train `module` (which this uses up) with a growing rate, one step per `accumulate` of `batches` (Smith 2017).

    Batches hold images `(batch, height, width)`.

    Raises:
        WorkFailedError: The loss did not fall at any rate.
    """
    optimizer = module.configure_optimizers()["optimizer"]
    lrs, losses, smoothed, diverged = list[float](), list[float](), list[float](), None
    sums: list[torch.Tensor] = []
    module.train()
    for number, batch in enumerate(batches):
        with autocast():
            loss = module.sample_loss(to_device(batch, module.device))
        (loss / accumulate).backward()
        sums.append(loss.detach())
        if (number + 1) % accumulate:
            continue
        lrs.append(lr_of_step(len(lrs)))
        losses.append(float(torch.stack(sums).mean()))
        sums = []
        smoothed = running_mean(losses)
        if not math.isfinite(losses[-1]) or smoothed[-1] > min(smoothed) + _DIVERGED * abs(losses[0]):
            diverged = lrs[-1]
            break
        _step(module, optimizer, lrs[-1], clip)
    return RangeTest(lrs, losses, smoothed, suggestion(lrs, smoothed), diverged)


def running_mean(losses: Sequence[float]) -> list[float]:
    """Compute the exponential running mean, corrected for its start at 0 as Adam's moments are (Kingma & Ba 2015)."""
    mean, means = 0.0, []
    for n, loss in enumerate(losses, 1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        means.append(mean / (1 - _SMOOTHING**n))
    return means


def suggestion(lrs: Sequence[float], smoothed: Sequence[float]) -> float:
    """Return a tenth of the rate with the least running mean of the loss.

    So does fastai's `minimum` (https://docs.fast.ai/callback.schedule.html), of its `lr_find`.

    Raises:
        WorkFailedError: It is least at the start: nothing was learned at any rate.
    """
    finite = [value if math.isfinite(value) else math.inf for value in smoothed]
    best = finite.index(min(finite))
    if best == 0:
        raise WorkFailedError(
            f"the loss did not fall at any learning rate from {LOW:g} on; give one by hand (--lr), and look at the data"
        )
    return float(f"{lrs[best] / _MARGIN:.1e}")


def _step(module: ReconModule, optimizer: torch.optim.Optimizer, lr: float, clip: float) -> None:
    if clip:
        torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
