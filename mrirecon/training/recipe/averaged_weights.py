"""The weights that are evaluated and saved: the trained ones, or an average put in their place for that long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mrirecon.training.recipe.averages import Average
from mrirecon.training.recipe.batchnorm import batch_norms

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
        """An average is asked for, and has not begun."""
        return self.average is not None and self.average.values(self._parameters()) is None

    def update(self) -> None:
        """Take in the weights after an optimizer step."""
        self._cached = None
        if self.average is not None:
            self.average.update(self._parameters())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages stand in the module."""
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
        """The module's state with averaged weights; None while there is no average."""
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
