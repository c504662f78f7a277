"""Gradient methods by name, with the rate recommended for each and where studies search its settings.

Where studies search (`space`): lowest and highest value on a logarithmic scale. A grid may override an entry (tuning:
{spaces: {adam: {lr: [...]}}}).

lr: three decades for every method, so that K trials search each with the same fineness (16 trials: a factor of 1.5).
  They contain the ranges of AlgoPerf's baselines (heavy ball and Nesterov .02 to 5 in short, AdamW and NAdamW 1e-4 to
  1e-2; Dahl et al. 2023), the recommended rates, and the best of five rates, a factor of 3 apart, for a U-Net of 8
  channels with instance norm in 100 steps of 4 simulated slices, which lies 3 to 15 times above the recommended ones:
  short runs of small networks want faster rates than long ones. A best trial in the outer eighth widens the range once.
one_minus_beta1: 1 - momentum, or 1 - the decay of the first moment. Absent: the method has none.
  What no range goes beyond stands in `BOUNDS`, and in the entry where the method itself refuses a beta of 0.
weight_decay: decoupled where the method has it so (.005 to 1, as AlgoPerf's AdamW), else a part of the gradient (1e-7
  to 5e-5, as AlgoPerf's heavy ball; to 1e-3 for methods that divide the gradient by its size, Loshchilov & Hutter
  2019). Norm and bias parameters are never decayed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Range = tuple[float, float]
BOUNDS: Mapping[str, Range] = {  # by dimension: no search leaves them, whoever declared or widened its range
    "lr": (0.0, math.inf),
    "one_minus_beta1": (0.0, 1.0),
    "weight_decay": (0.0, math.inf),
}
_SOME_BETA: Mapping[str, Range] = {"one_minus_beta1": (0.0, 0.999)}  # of methods that refuse a beta of 0
FALLBACK_LR = 1e-3  # of classes, for which there is no recommendation


@dataclass(frozen=True)
class OptimizerEntry:
    """A gradient method.

    `build` makes the optimizer: (parameter groups, lr, **fixed, **options) -> optimizer. `options` are the keys of
    `OptimizerConfig` that a user may change, with the method's own values; `fixed` is what makes the class this method.
    `groups` may split the parameter groups.
    """

    help: str
    build: str | Callable[..., Any]
    lr: float  # recommended
    space: Mapping[str, Range]  # where studies search, by dimension
    options: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    bounds: Mapping[str, Range] = field(default_factory=dict)  # those that are tighter than `BOUNDS`
    groups: str | Callable[..., Any] = ""
    is_fused: bool = False  # torch has it in one pass over the weights, which takes a quarter of the time on a CPU
    whole_set: bool = False  # each step takes the gradient of the whole training set
    overlay: Mapping[str, Any] = field(default_factory=dict)  # what `-c optimizer/NAME` sets besides, by dotted key

    @property
    def beta1_key(self) -> str:
        """The option that holds the decay of the first moment, or the first of two; empty: the method has none."""
        return next((key for key in ("momentum", "betas") if key in self.options), "")

    @property
    def beta1(self) -> float | None:
        """Its value unless a user changes it."""
        value = self.options.get(self.beta1_key)
        return value[0] if isinstance(value, tuple) else value


_ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
_COUPLED, _COUPLED_ADAPTIVE, _DECOUPLED = (1e-7, 5e-5), (1e-7, 1e-3), (5e-3, 1.0)
_ADAM_SPACE: Mapping[str, Range] = {"lr": (1e-4, 1e-1), "one_minus_beta1": (2e-2, 0.5)}
_SGD_SPACE: Mapping[str, Range] = {"lr": (2e-2, 20.0), "weight_decay": _COUPLED}  # momentum's rates over 1 - .9
_MOMENTUM_SPACE: Mapping[str, Range] = {  # AlgoPerf's space for 1 - beta and weight decay
    "lr": (5e-3, 5.0),
    "one_minus_beta1": (5e-3, 0.3),
    "weight_decay": _COUPLED,
}
_CONSTANT = {"schedule.name": "constant", "schedule.warmup": 0.05}

OPTIMIZERS: dict[str, OptimizerEntry] = {
    "gd": OptimizerEntry(
        "Gradient descent on the whole training set at each step.",
        "torch.optim:SGD",
        lr=0.1,
        is_fused=True,
        space=_SGD_SPACE,
        whole_set=True,
    ),
    "sgd": OptimizerEntry(
        "Plain stochastic gradient descent.", "torch.optim:SGD", lr=0.1, is_fused=True, space=_SGD_SPACE
    ),
    "momentum": OptimizerEntry(
        "SGD with heavy-ball momentum.",
        "torch.optim:SGD",
        lr=0.02,
        options={"momentum": 0.9},
        is_fused=True,
        space=_MOMENTUM_SPACE,
    ),
    "nesterov": OptimizerEntry(
        "SGD with Nesterov momentum.",
        "torch.optim:SGD",
        lr=0.02,
        options={"momentum": 0.9},
        fixed={"nesterov": True},
        is_fused=True,
        space=_MOMENTUM_SPACE,
        bounds=_SOME_BETA,
    ),
    # fastMRI's U-Net takes 1e-3 without momentum (beta 0 is the upper end of the search)
    "rmsprop": OptimizerEntry(
        "RMSprop as fastMRI's U-Net uses it.",
        "torch.optim:RMSprop",
        lr=1e-3,
        options={"alpha": 0.99, "eps": 1e-8, "momentum": 0.0},
        space={"lr": (1e-4, 1e-1), "one_minus_beta1": (5e-2, 1.0), "weight_decay": _COUPLED_ADAPTIVE},
    ),
    # rates fall as it goes, so they begin higher (Duchi et al. 2011; torch's default .01)
    "adagrad": OptimizerEntry(
        "AdaGrad: rates fall with the sum of squared gradients.",
        "torch.optim:Adagrad",
        lr=0.01,
        options={"eps": 1e-10},
        is_fused=True,
        space={"lr": (1e-3, 1.0), "weight_decay": _COUPLED_ADAPTIVE},
    ),
    "adam": OptimizerEntry(
        "Adam.",
        "torch.optim:Adam",
        lr=1e-3,
        options=_ADAM,
        is_fused=True,
        space={**_ADAM_SPACE, "weight_decay": _COUPLED_ADAPTIVE},
    ),
    # AlgoPerf's AdamW, and a decade more on the fast side
    "adamw": OptimizerEntry(
        "Adam with decoupled weight decay.",
        "torch.optim:AdamW",
        lr=1e-3,
        options=_ADAM,
        is_fused=True,
        space={**_ADAM_SPACE, "weight_decay": _DECOUPLED},
        overlay={"optimizer.weight_decay": 1e-4},
    ),
    "amsgrad": OptimizerEntry(
        "Adam whose second moment never falls.",
        "torch.optim:Adam",
        lr=1e-3,
        options=_ADAM,
        fixed={"amsgrad": True},
        is_fused=True,
        space={**_ADAM_SPACE, "weight_decay": _COUPLED_ADAPTIVE},
    ),
    "nadamw": OptimizerEntry(
        "NAdamW in AlgoPerf's form (not torch's NAdam).",
        "timm.optim:NAdamW",
        lr=1e-3,
        options=_ADAM,
        space={"lr": (1e-4, 1e-1), "one_minus_beta1": (4e-3, 0.1), "weight_decay": _DECOUPLED},
        overlay={"optimizer.weight_decay": 1e-4},
    ),
    # as published: no clipping of the gradient, and every layer adapted, with weight decay or without;
    # searched above Adam's rates, since a step is scaled to the norm of its layer
    "lamb": OptimizerEntry(
        "LAMB: Adam's step scaled to the norm of each layer.",
        "timm.optim:Lamb",
        lr=0.01,
        options={"betas": (0.9, 0.999), "eps": 1e-6},
        fixed={"max_grad_norm": None, "always_adapt": True},
        space={"lr": (1e-3, 1.0), "one_minus_beta1": (2e-2, 0.5), "weight_decay": _DECOUPLED},
    ),
    # decay as much above AdamW's as rates are below (Chen et al. 2023)
    "lion": OptimizerEntry(
        "Lion: the sign of an average; rates 3 to 10 times below AdamW's.",
        "timm.optim:Lion",
        lr=2e-4,
        options={"betas": (0.9, 0.99)},
        space={"lr": (2e-5, 2e-2), "one_minus_beta1": (2e-2, 0.5), "weight_decay": (2e-2, 5.0)},
    ),
    "madgrad": OptimizerEntry(
        "MADGRAD: dual averaging with a cube root; needs little or no weight decay.",
        "timm.optim:MADGRAD",
        lr=1e-3,
        options={"momentum": 0.9, "eps": 1e-6},
        space={**_ADAM_SPACE, "weight_decay": _COUPLED},
    ),
    # from the rates of AdamW (Liu et al. 2025) to far above; beta .95 (Jordan 2024)
    "muon": OptimizerEntry(
        "Muon on convolutions, AdamW on the output layer and vectors; rates as for AdamW.",
        "mrirecon.training.recipe.muon:Muon",
        lr=0.005,
        options={"momentum": 0.8, "betas": (0.9, 0.95)},
        groups="mrirecon.training.recipe.optimizers:muon_groups",
        space={"lr": (5e-4, 5e-1), "one_minus_beta1": (1e-2, 0.5), "weight_decay": _DECOUPLED},
    ),
    # beta .9 to .98 (Defazio et al. 2024); SGD's rates are 10 to 50 times those of momentum, AdamW's 1 to 10
    "schedulefree_sgd": OptimizerEntry(
        "Schedule-Free SGD: no decay of the rate, the average is evaluated.",
        "schedulefree:SGDScheduleFree",
        lr=0.5,
        options={"momentum": 0.9},
        space={"lr": (5e-2, 50.0), "one_minus_beta1": (2e-2, 0.2), "weight_decay": _COUPLED},
        bounds=_SOME_BETA,
        overlay=_CONSTANT,
    ),
    "schedulefree_adamw": OptimizerEntry(
        "Schedule-Free AdamW: no decay of the rate, the average is evaluated.",
        "schedulefree:AdamWScheduleFree",
        lr=2.5e-3,
        options=_ADAM,
        space={"lr": (1e-4, 1e-1), "one_minus_beta1": (2e-2, 0.2), "weight_decay": _DECOUPLED},
        bounds=_SOME_BETA,
        overlay=_CONSTANT,
    ),
}


def find_optimizer(name: object) -> OptimizerEntry | None:
    """The entry of a named method; None for a class and for an unknown name."""
    return OPTIMIZERS.get(name) if isinstance(name, str) else None


def recommended_lr(name: object) -> float:
    """The learning rate to begin with; of a class, of which nothing is known, 1e-3."""
    entry = find_optimizer(name)
    return entry.lr if entry else FALLBACK_LR
