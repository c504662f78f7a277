"""Averages of the weights along a training, which are evaluated and saved in place of those being trained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from mrirecon.config import AverageConfig
from mrirecon.errors import InputError, unknown_name
from mrirecon.training.recipe.batchnorm import batch_norms

Tensors = Sequence[Tensor]


class Average(Protocol):
    """Keeps an average of parameters."""

    def update(self, parameters: Tensors) -> None:
        """Take in the parameters, tensors of any shape in a fixed order, after an optimizer step."""

    def values(self, parameters: Tensors) -> list[Tensor] | None:
        """Return averages of the shapes of `parameters` and in their order, or None while there is none."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `load` needs besides the averages themselves."""

    def load(self, state: dict[str, Any], values: Tensors) -> None:
        """Go on with saved averages, `values` of the shapes of the parameters."""


class MovingAverage:
    """Exponential moving average: `average' = d average + (1 - d) weights`, d = min(decay, (1 + n) / (10 + n)).

    Polyak & Juditsky (1992) average weights along the training; the limit of d on the first steps, by which the start
    is forgotten sooner, is that of TensorFlow's `ExponentialMovingAverage` and of Tan & Le (2019).
    """

    def __init__(self, config: AverageConfig, n_steps: int) -> None:
        self.decay, self.n, self.averages = config.decay, 0, list[Tensor]()

    def update(self, parameters: Tensors) -> None:
        if not self.averages:
            self.averages = [p.detach().clone() for p in parameters]
        else:
            decay = min(self.decay, (1 + self.n) / (10 + self.n))
            _average(get_ema_multi_avg_fn(decay), self.averages, parameters, self.n)
        self.n += 1

    def values(self, parameters: Tensors) -> list[Tensor] | None:
        return self.averages or None

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n}

    def load(self, state: dict[str, Any], values: Tensors) -> None:
        self.n, self.averages = state["n"], [value.detach().clone() for value in values]


class TailAverage(MovingAverage):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights after each step of the run's end."""

    def __init__(self, config: AverageConfig, n_steps: int) -> None:
        super().__init__(config, n_steps)
        self.start, self.step = min(round(config.start * n_steps), n_steps - 1), 0

    def update(self, parameters: Tensors) -> None:
        self.step += 1
        if self.step <= self.start:  # only counted
            return
        if not self.averages:
            self.averages = [p.detach().clone() for p in parameters]
        else:
            _average(get_swa_multi_avg_fn(), self.averages, parameters, self.n)
        self.n += 1

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n, "step": self.step}

    def load(self, state: dict[str, Any], values: Tensors) -> None:
        self.step, self.n = state["step"], state["n"]
        self.averages = [value.detach().clone() for value in values] if self.n else []


class OptimizerAverage:
    """The average that an optimizer with an eval mode keeps itself (Schedule-Free, Defazio et al. 2024)."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer: Any = optimizer

    def update(self, parameters: Tensors) -> None:
        pass  # the optimizer did it

    def values(self, parameters: Tensors) -> list[Tensor] | None:
        """Return the weights in the optimizer's eval mode; the trained ones come back bit for bit.

        Of Schedule-Free methods these are the average x (Defazio et al. 2024), the trained ones the point y.
        """
        with torch.no_grad():
            trained = [p.detach().clone() for p in parameters]
            self.optimizer.eval()
            averages = [p.detach().clone() for p in parameters]
            self.optimizer.train()
            for p, value in zip(parameters, trained, strict=True):
                p.copy_(value)
        return averages

    def state_dict(self) -> dict[str, Any]:
        return {}  # the optimizer's own state holds everything

    def load(self, state: dict[str, Any], values: Tensors) -> None:
        pass  # the optimizer's own state holds everything


AVERAGES: dict[str, Callable[[AverageConfig, int], Average]] = {"ema": MovingAverage, "swa": TailAverage}


def make_average(config: AverageConfig, n_steps: int) -> Average | None:
    """Build the average of a configuration: ema (Polyak & Juditsky 1992), swa (Izmailov et al. 2018), None for none.

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


State = dict[str, Tensor]


class EvaluatedWeights:
    """Swaps averaged weights in and out; what comes back is the trained weights, bit for bit.

    Args:
        module: Its parameters are averaged; its state dict is what is saved.
        average: The average, or None: then the trained weights are evaluated and saved.
        recalibrate: Measures BatchNorm's statistics for the weights that are in place, leaving eval mode; called only
            where there are such layers, once for each state of the average.
    """

    def __init__(self, module: nn.Module, average: Average | None, recalibrate: Callable[[], None]) -> None:
        self.module, self.average, self.recalibrate = module, average, recalibrate
        self._cached: State | None = None
        self._trained: State | None = None  # while the averages are in place

    @property
    def is_pending(self) -> bool:
        """Say whether an average is asked for and has not begun."""
        return self.average is not None and self.average.values(self._parameters()) is None

    def update(self) -> None:
        """Take in the weights after an optimizer step."""
        self._cached = None
        if self.average is not None:
            self.average.update(self._parameters())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages into the module, and the trained weights back afterwards."""
        state = self._state()
        if state is None or self._trained is not None:
            yield
            return
        self._trained = _clone(self.module)
        try:
            _fill(self.module, state)
            yield
        finally:
            _fill(self.module, self._trained)
            self._trained = None

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Make `state_dict` of a checkpoint the averages, and keep what a resumed training needs beside it."""
        if self.average is None:
            return
        checkpoint["average"] = self.average.state_dict()
        state = self._state()
        if state is not None:
            checkpoint["training_weights"] = self._trained or _clone(self.module)
            checkpoint["state_dict"] = state

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Make `state_dict` of a checkpoint the trained weights again, and take back the averages."""
        self._cached = None
        averaged = checkpoint["state_dict"]
        if "training_weights" in checkpoint:
            checkpoint["state_dict"] = checkpoint.pop("training_weights")
        if self.average is not None and "average" in checkpoint:
            self.average.load(checkpoint["average"], [averaged[name] for name, _ in self._named()])

    def _state(self) -> State | None:
        """Return the module's state with averaged weights; None while there is no average."""
        values = None if self.average is None else self.average.values(self._parameters())
        if values is None:
            return None
        if self._cached is None:
            trained, training = _clone(self.module), self.module.training
            try:
                _fill(self.module, dict(zip((name for name, _ in self._named()), values, strict=True)))
                if batch_norms(self.module):
                    self.recalibrate()
                self._cached = _clone(self.module)
            finally:
                _fill(self.module, trained)
                self.module.train(training)
        return self._cached

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def _parameters(self) -> list[nn.Parameter]:
        return [p for _, p in self._named()]


def _clone(module: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _fill(module: nn.Module, state: State) -> None:
    with torch.no_grad():
        own = module.state_dict()
        for name, value in state.items():
            own[name].copy_(value)
