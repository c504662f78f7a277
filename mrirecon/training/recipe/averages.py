"""Averages of the weights along a training: which ones are evaluated and saved in place of those being trained."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from mrirecon.config import AverageConfig
from mrirecon.errors import InputError, unknown_name

Tensors = Sequence[Tensor]


class Average(Protocol):
    """Keeps an average of parameters."""

    def update(self, parameters: Tensors) -> None:
        """Take in the parameters after an optimizer step."""

    def values(self, parameters: Tensors) -> list[Tensor] | None:
        """The averages in the order of `parameters`, or None while there is none."""

    def state_dict(self) -> dict[str, Any]:
        """What `load` needs besides the averages themselves."""

    def load(self, state: dict[str, Any], values: Tensors) -> None:
        """Go on with saved averages."""


class MovingAverage:
    """Exponential moving average: `average' = d average + (1 - d) weights`, d = min(decay, (1 + n) / (10 + n)).

    The limit on the first steps is that of Tan & Le (2019) and TensorFlow: the start is forgotten sooner.
    """

    def __init__(self, config: AverageConfig, n_steps: int) -> None:
        self.decay, self.n, self.averages = config.decay, 0, list[Tensor]()

    def update(self, parameters: Tensors) -> None:
        """One step further."""
        if not self.averages:
            self.averages = [p.detach().clone() for p in parameters]
        else:
            decay = min(self.decay, (1 + self.n) / (10 + self.n))
            _average(get_ema_multi_avg_fn(decay), self.averages, parameters, self.n)
        self.n += 1

    def values(self, parameters: Tensors) -> list[Tensor] | None:
        """The averages so far."""
        return self.averages or None

    def state_dict(self) -> dict[str, Any]:
        """The number of steps taken in."""
        return {"n": self.n}

    def load(self, state: dict[str, Any], values: Tensors) -> None:
        """Go on."""
        self.n, self.averages = state["n"], [value.detach().clone() for value in values]


class TailAverage(MovingAverage):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights after each step of the run's end."""

    def __init__(self, config: AverageConfig, n_steps: int) -> None:
        super().__init__(config, n_steps)
        self.start, self.step = min(round(config.start * n_steps), n_steps - 1), 0

    def update(self, parameters: Tensors) -> None:
        """One step further; those before the start of the average are only counted."""
        self.step += 1
        if self.step <= self.start:
            return
        if not self.averages:
            self.averages = [p.detach().clone() for p in parameters]
        else:
            _average(get_swa_multi_avg_fn(), self.averages, parameters, self.n)
        self.n += 1

    def state_dict(self) -> dict[str, Any]:
        """The numbers of steps seen and taken in."""
        return {"n": self.n, "step": self.step}

    def load(self, state: dict[str, Any], values: Tensors) -> None:
        """Go on."""
        self.step, self.n = state["step"], state["n"]
        self.averages = [value.detach().clone() for value in values] if self.n else []


class OptimizerAverage:
    """The average that an optimizer with an eval mode keeps itself (Schedule-Free)."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer: Any = optimizer

    def update(self, parameters: Tensors) -> None:
        """The optimizer did it."""

    def values(self, parameters: Tensors) -> list[Tensor] | None:
        """What the optimizer's eval mode makes of the weights, which come back bit for bit."""
        with torch.no_grad():
            trained = [p.detach().clone() for p in parameters]
            self.optimizer.eval()
            averages = [p.detach().clone() for p in parameters]
            self.optimizer.train()
            for p, value in zip(parameters, trained, strict=True):
                p.copy_(value)
        return averages

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's own state holds everything."""
        return {}

    def load(self, state: dict[str, Any], values: Tensors) -> None:
        """The optimizer's own state holds everything."""


AVERAGES: dict[str, Callable[[AverageConfig, int], Average]] = {"ema": MovingAverage, "swa": TailAverage}


def make_average(config: AverageConfig, n_steps: int) -> Average | None:
    """The average of a configuration, None for none.

    Raises:
        InputError: Unknown name or a value out of range.
    """
    if not 0 <= config.decay < 1 or not 0 <= config.start < 1 or config.bn_batches < 1:
        raise InputError(
            f"average.decay {config.decay:g}, start {config.start:g}, bn_batches {config.bn_batches}: "
            "shares from 0 to below 1, and at least 1"
        )
    if config.name == "none":
        return None
    if config.name not in AVERAGES:
        raise unknown_name("average", config.name, ("none", *AVERAGES))
    return AVERAGES[config.name](config, n_steps)


def _average(function: Callable[..., None], averages: list[Tensor], parameters: Tensors, n: int) -> None:
    averages[:] = [a.to(p.device) for a, p in zip(averages, parameters, strict=True)]  # loaded before the device is set
    function(averages, [p.detach() for p in parameters], torch.tensor(n))
