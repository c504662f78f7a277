"""Gradient methods by name; each equals the formula its docstring source gives.

Sources: gradient descent to Adam: LeCun & Canziani, NYU Deep Learning 2020, week 5. AdaGrad: Duchi et al. 2011. AdamW:
Loshchilov & Hutter 2019. AMSGrad: Reddi et al. 2018. NAdamW: Choi et al. 2019, table 1, as AlgoPerf uses it (torch's
NAdam is another method). LAMB: You et al. 2020. Lion: Chen et al. 2023. MADGRAD: Defazio & Jelassi 2022. Muon: Jordan
2024, step size of Liu et al. 2025. Schedule-Free: Defazio et al. 2024.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from mrirecon.classpaths import resolve_class
from mrirecon.errors import InputError
from mrirecon.tables.entry import builder, named
from mrirecon.tables.optimizers import OPTIMIZERS

Groups = list[dict[str, Any]]


def muon_groups(groups: Groups) -> Groups:
    """Give matrices and convolutions, flattened to (out, in x height x width), to Muon, others to AdamW (Jordan 2024).

    A convolution of 1 x 1 is the network's output layer, where the source advises AdamW.
    """
    split: Groups = []
    for group in groups:
        for wanted in (True, False):
            chosen = [p for p in group["params"] if (p.ndim == 2 or (p.ndim > 2 and p[0, 0].numel() > 1)) == wanted]
            split += [{**group, "use_muon": wanted, "params": chosen}] if chosen else []
    return split


def make_optimizer(
    name: str | Mapping[str, Any] | Callable[..., Optimizer],
    parameters: nn.Module | Iterable[nn.Parameter],
    lr: float,
    weight_decay: float = 0.0,
    **options: Any,
) -> Optimizer:
    """Build an optimizer; weight decay skips norm and bias parameters (all that have one axis).

    He et al. (2019) advise so. The sources of the named methods stand at the head of this module.

    One with a train and an eval mode (Schedule-Free) comes in train mode; see `has_modes`.

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
        build, groups = _method(name, groups, options)
    else:
        build = partial(name if callable(name) else resolve_class(name), **options)
    try:
        optimizer = build(groups, lr=lr)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"optimizer '{name}' with lr {lr} and {options}: {error}") from error
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"'{name}' makes no torch.optim.Optimizer")
    # so says torch of fused methods, and Lightning then refuses to clip; no precision here scales the loss
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    if has_modes(optimizer):
        if any(group.get("betas", (1.0,))[0] == 0 for group in optimizer.param_groups):
            raise InputError(f"optimizer '{name}' with betas {options['betas']}: the first must be above 0")
        optimizer.train()  # type: ignore[attr-defined]
    return optimizer


def has_modes(optimizer: Any) -> bool:
    """Tell whether an optimizer holds other weights for evaluation than for training, as Schedule-Free methods do.

    Those are of Defazio et al. (2024).
    """
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def parameter_groups(parameters: nn.Module | Iterable[nn.Parameter], weight_decay: float) -> Groups:
    """Split parameters into decayed weights and undecayed norms and biases (one axis), as He et al. (2019) advise."""
    if isinstance(parameters, nn.Module):
        parameters = parameters.parameters()
    trained = [p for p in parameters if p.requires_grad]
    decayed = {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay}
    plain = {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}
    return [group for group in (decayed, plain) if group["params"]]


def _method(name: str, groups: Groups, options: dict[str, Any]) -> tuple[Callable[..., Optimizer], Groups]:
    method = named(OPTIMIZERS, name, "optimizer", "Or give {class_path: torch.optim.NAdam, init_args: {...}}.")
    for key in options:
        if key not in method.options:
            allowed = ", ".join(method.options) or "none besides lr and weight_decay"
            raise InputError(f"optimizer '{name}' has no option '{key}'; its options: {allowed}")
    if len(options.get("betas", (0, 0))) != 2:
        raise InputError(f"betas {options['betas']}: give two numbers (--optimizer.betas 0.9 0.999)")
    if not all(0 <= beta < 1 for beta in options.get("betas", ())):
        raise InputError(f"betas {options['betas']}: each must be at least 0 and below 1")
    is_outline = any(p.is_meta for group in groups for p in group["params"])
    fused = {"fused": True} if method.is_fused and not is_outline else {}
    build = partial(builder(method.build), **{**fused, **method.fixed, **method.options, **options})
    return build, builder(method.groups)(groups) if method.groups else groups
