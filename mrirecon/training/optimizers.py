"""Gradient methods by name; each equals the formula its docstring source gives.

Formulas: LeCun & Canziani, NYU Deep Learning 2020, week 5 (gradient descent to Adam); AdamW: Loshchilov & Hutter,
"Decoupled weight decay regularization" (2019).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mrirecon.classpaths import resolve_class
from mrirecon.errors import InputError, unknown_name


@dataclass(frozen=True)
class Method:
    """A torch optimizer with the defaults that make it the named method."""

    build: Callable[..., Optimizer]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)  # what a user may change


_ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
OPTIMIZERS: dict[str, Method] = {
    "gd": Method(torch.optim.SGD),  # the workflow accumulates over the whole training set
    "sgd": Method(torch.optim.SGD),
    "momentum": Method(torch.optim.SGD, defaults={"momentum": 0.9}),
    "nesterov": Method(torch.optim.SGD, fixed={"nesterov": True}, defaults={"momentum": 0.9}),
    "rmsprop": Method(torch.optim.RMSprop, defaults={"alpha": 0.99, "eps": 1e-8, "momentum": 0.0}),
    "adam": Method(torch.optim.Adam, defaults=_ADAM),
    "adamw": Method(torch.optim.AdamW, defaults=_ADAM),
}


def make_optimizer(
    name: str | Mapping[str, Any] | Callable[..., Optimizer],
    parameters: nn.Module | Iterable[nn.Parameter],
    lr: float,
    weight_decay: float = 0.0,
    **options: Any,
) -> Optimizer:
    """Build an optimizer; weight decay skips norm and bias parameters (all that have one axis).

    Args:
        name: One of `OPTIMIZERS`, a mapping {class_path, init_args}, or a callable (groups, lr) -> optimizer.
        parameters: A module or its parameters.
        lr: Learning rate.
        weight_decay: Decay of parameters with more than one axis.
        options: `momentum`, `betas`, `alpha`, `eps` where the method has them; `None` and () mean the default.

    Raises:
        InputError: Unknown name, an option that the method lacks, or a value out of range.
    """
    if weight_decay < 0:  # torch looks at its own default only, not at the groups'
        raise InputError(f"weight_decay is {weight_decay:g}; it must not be negative")
    groups = parameter_groups(parameters, weight_decay)
    options = {key: value for key, value in options.items() if value is not None and value != []}
    if isinstance(name, str) and "." not in name:
        build, options = _method(name, options)
    else:
        build = name if callable(name) else resolve_class(name)
    try:
        optimizer = build(groups, lr=lr, **options)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"optimizer '{name}' with lr {lr} and {options}: {error}") from error
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"'{name}' makes no torch.optim.Optimizer")
    if hasattr(optimizer, "eval"):  # Schedule-Free holds other weights for evaluation than for training
        raise InputError(f"optimizer '{name}' has a train and an eval mode, which the trainer does not switch")
    return optimizer


def parameter_groups(parameters: nn.Module | Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Decayed weights and undecayed norm and bias parameters, in the order of the module."""
    if isinstance(parameters, nn.Module):
        parameters = parameters.parameters()
    trained = [p for p in parameters if p.requires_grad]
    decayed = {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay}
    plain = {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}
    return [group for group in (decayed, plain) if group["params"]]


def _method(name: str, options: dict[str, Any]) -> tuple[Callable[..., Optimizer], dict[str, Any]]:
    if name not in OPTIMIZERS:
        hint = "Or give {class_path: torch.optim.NAdam, init_args: {...}}."
        raise unknown_name("optimizer", name, OPTIMIZERS, hint)
    method = OPTIMIZERS[name]
    for key in options:
        if key not in method.defaults:
            allowed = ", ".join(method.defaults) or "none besides lr and weight_decay"
            raise InputError(f"optimizer '{name}' has no option '{key}'; its options: {allowed}")
    if len(options.get("betas", (0, 0))) != 2:
        raise InputError(f"betas {options['betas']}: give two numbers (--optimizer.betas 0.9 0.999)")
    return method.build, {**method.fixed, **method.defaults, **options}
