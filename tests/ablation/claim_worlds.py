"""Studies that hold each claim's cells, with worlds where it is true, where it is false, and where noise hides it."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from synthetic import NORMS, OPTIMIZERS, World, make_study

from mrirecon.ablation.claims.ledger import decide_claims
from mrirecon.ablation.findings.analysis import analyse

LR = "optimizer.lr"
LOUD = {"sd_seed": 0.05, "sd_volume": 0.05, "sd_residual": 0.05}
QUIET = {"sd_seed": 1e-4, "sd_volume": 1e-4, "sd_residual": 1e-4}
SGD, MOMENTUM, ADAM = ({name: OPTIMIZERS[name]} for name in ("sgd", "momentum", "adam"))
NESTEROV = {"nesterov": {"optimizer.name": "nesterov"}}
RMSPROP = {"rmsprop": {"optimizer.name": "rmsprop"}}
NONE = {"none": {"model.norm": "none"}}
BETAS = {
    "m.9": {"optimizer.name": "momentum"},  # .9 is its default
    "m.99": {"optimizer.name": "momentum", "optimizer.momentum": 0.99},
    "a.9": {"optimizer.name": "adam", "optimizer.betas": [0.9, 0.999]},
    "a.99": {"optimizer.name": "adam", "optimizer.betas": [0.99, 0.999]},
}
TWO_NORMS = {name: NORMS[name] for name in ("instance", "group")}
POSITIONS = {name: {"model.norm_position": name} for name in ("before", "between", "after")}
SIZES = {str(n): {"model.norm": "group", "model.channels_per_group": n} for n in (8, 16, 32)}
BATCHES = {str(n): {"batch_size": n} for n in (1, 2, 8)}


@dataclass(frozen=True)
class Case:
    """A study that holds a claim's cells, and the worlds that decide it; other cells have the default world."""

    factors: dict[str, Any]
    true: dict[str, World]  # by label of a level, or by cell
    false: dict[str, World]
    noisy: dict[str, World] = field(default_factory=dict)
    noise: dict[str, Any] = field(default_factory=lambda: LOUD)
    options: dict[str, Any] = field(default_factory=lambda: QUIET)
    bounce: bool = False  # validation noise goes with the learning rate


def rates(first, second):
    """The best rates of two levels, each a tenth of the first one that fails."""
    return tuple(World(lr=lr, lr_diverged=10 * lr) for lr in (first, second))


FAST, SLOW = World(lr=4e-3, lr_diverged=6e-2), World(lr=4e-3, lr_diverged=1.2e-2)
DRAWS = {**QUIET, "repeats": 5, "trials": 16}
CASES = {
    "G2": Case(
        {"optimizer": OPTIMIZERS, "norm": NORMS},
        true={"": World(lr=2e-3, lr_diverged=3e-3, curvature=0.005)},
        false={"": World(lr=2e-3, lr_diverged=3e-2, curvature=0.005)},
        noisy={"": World(lr=2e-3, lr_diverged=8e-3, curvature=0.005)},
        noise=QUIET,  # the sweep itself knows the failing rate to a factor of 2 only
        options=DRAWS,
    ),
    "G12": Case(
        {"method": BETAS, "norm": TWO_NORMS},
        true=dict(zip(("m.9", "m.99"), rates(1e-2, 1e-3), strict=True)),
        false=dict(zip(("m.9", "m.99"), rates(2e-3, 2e-3), strict=True)),
        noisy=dict(zip(("m.9", "m.99"), rates(1e-2, 1e-3), strict=True)),
        noise=LOUD,
        options=DRAWS,
    ),
    "G13": Case({"optimizer": NESTEROV | MOMENTUM, "norm": NORMS}, true={}, false={"nesterov": World(ssim=0.81)}),
    "G16": Case({"optimizer": SGD | MOMENTUM, "norm": NORMS}, true={"momentum": World(ssim=0.82)}, false={}),
    "G16b": Case(
        {"optimizer": SGD | MOMENTUM, "norm": NORMS},
        true={"sgd": World(tail=1.0)},  # an exponent here: see `bouncing`
        false={"sgd": World(tail=-1.0)},
        noisy={"sgd": World(tail=0.0)},
        noise=QUIET,
        options=DRAWS,
        bounce=True,
    ),
    "A6": Case(
        {"method": BETAS, "norm": TWO_NORMS},
        true=dict(zip(("a.9", "a.99"), rates(2e-3, 2e-3), strict=True)),
        false=dict(zip(("a.9", "a.99"), rates(1e-2, 1e-3), strict=True)),
        options=DRAWS,
    ),
    "A7": Case(
        {"optimizer": ADAM | RMSPROP, "norm": NORMS},
        true={"adam": World(tail=5e-4), "rmsprop": World(tail=4e-3)},
        false={"adam": World(tail=4e-3), "rmsprop": World(tail=5e-4)},
        noisy={"": World(tail=1e-3)},
        noise=QUIET,
    ),
    "A7b": Case(
        {"optimizer": ADAM | RMSPROP, "norm": NORMS},
        true={"rmsprop": World(speed=90)},
        false={"adam": World(speed=90)},
    ),
    "A9": Case(
        {"optimizer": ADAM | MOMENTUM, "norm": NORMS},
        true={"adam": World(gap=0.02)},
        false={"momentum": World(gap=0.02)},
        noisy={"": World(tail=0.05)},
    ),
    "A10": Case(
        {"optimizer": OPTIMIZERS, "norm": NORMS},
        true={"sgd": World(buffers=0), "momentum": World(buffers=1), "adam": World(buffers=2)},
        false={"sgd": World(buffers=0), "momentum": World(buffers=2), "adam": World(buffers=2)},
    ),
    "N1": Case({"position": POSITIONS, "norm": NORMS}, true={}, false={"before": World(ssim=0.79)}),
    "N5": Case({"size": SIZES}, true={"32": World(ssim=0.81)}, false={"8": World(ssim=0.82)}),
    "N6": Case(
        {"norm": NORMS, "batch_size": BATCHES},
        true={"batch/1": World(ssim=0.75), "batch/2": World(ssim=0.78)},
        false={"batch": World(ssim=0.78)},
    ),
    "N6b": Case({"optimizer": OPTIMIZERS, "norm": NORMS}, true={"group": World(ssim=0.82)}, false={}),
    "N7": Case(
        {"optimizer": OPTIMIZERS, "norm": NONE | NORMS},
        true={"": FAST, "none": SLOW},
        false={"": SLOW, "none": FAST},
        noisy={"": FAST, "none": FAST},
        noise=QUIET,
        options=DRAWS,
    ),
    "N7b": Case(
        {"optimizer": OPTIMIZERS, "norm": NONE | NORMS},
        true={"none": World(speed=90)},
        false={"none": World(speed=10)},
    ),
}


def bouncing(results, factors):
    """Validation noise of .002 * (rate / .002)**(tail of the world), in place of none."""
    made = []
    for i, run in enumerate(results):
        power = factors.get(run.levels["optimizer"], World()).tail
        noise = np.random.default_rng(i).standard_normal(len(run.points)) * 0.002 * (run.values[LR] / 0.002) ** power
        points = [
            replace(p, scores={**p.scores, "ssim": p.scores["ssim"] + n})
            for p, n in zip(run.points, noise, strict=True)
        ]
        made.append(replace(run, points=points))
    return made


def study(case, worlds, options):
    """A grid, its results and their analysis."""
    named = {
        name: next((worlds[key] for key in (name, *name.split("/"), "") if key in worlds), World())
        for name in _cell_names(case.factors)
    }
    if case.bounce:
        named = {name: replace(world, tail=0.0) for name, world in named.items()}
    grid, results, facts = make_study(case.factors, named, **{"seeds": range(6), **case.options, **options})
    results = bouncing(results, worlds) if case.bounce else results
    return grid, results, analyse(grid, results, facts)


def _cell_names(factors):
    names = [""]
    for levels in factors.values():
        names = [f"{name}/{label}".lstrip("/") for name in names for label in levels]
    return names


def decided(claim, case, worlds, options=None):
    grid, results, analysed = study(case, worlds, options or {})
    return next(entry for entry in decide_claims(grid, results, analysed) if entry["claim"] == claim)
