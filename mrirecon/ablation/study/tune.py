"""The tuning of one cell: the ranges it is searched over, the trials, the winner, and the sweep around it."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from mrirecon.ablation.study.grid import Cell, Tuning
from mrirecon.ablation.study.records import RunResult
from mrirecon.errors import InputError, unknown_name
from mrirecon.tables.entry import named
from mrirecon.tables.optimizers import BOUNDS, OPTIMIZERS, find_optimizer

Ranges = dict[str, tuple[float, float]]
DIMENSIONS = tuple(BOUNDS)
# What happens where the best trial lies at the edge of its range. `replace`: the range of the learning rate is widened,
# the trials of the wider one choose the winner and those before it only the range, so that every winner is the best of
# as many. `add`, as the first studies did it: every range is widened, the winner is the best of twice as many.
REPLACE = "replace"
WIDENINGS = ("add", REPLACE)


def tuned_key(dimension: str) -> str:
    """Return the key of a dimension in records: optimizer.lr."""
    return f"optimizer.{dimension}"


def tuning_spaces(
    cell: Cell, dimensions: Sequence[str], own: Mapping[str, Any], then: Mapping[str, Mapping[str, Any]] | None = None
) -> Ranges:
    """Lowest and highest value of every tuned key of a cell, searched on a logarithmic scale.

    Args:
        cell: Its optimizer's ranges are taken.
        dimensions: Names of `DIMENSIONS`; the same for all cells of a grid.
        own: The grid's ranges by cell, level or optimizer, which go before the optimizer's own.
        then: Those that optimizers had when the study was begun, where they are others today.

    Raises:
        InputError: An unknown dimension, an optimizer without a declared range, a range that is none.
    """
    optimizer = str(cell.settings["optimizer.name"])
    if isinstance(cell.settings["optimizer.name"], str) and "." not in optimizer:  # else a class of the user's
        named(OPTIMIZERS, optimizer, "optimizer")
    method = find_optimizer(optimizer)
    declared: dict[str, Any] = {**(method.space if method else {}), **(then or {}).get(optimizer, {})}
    for name in (optimizer, *cell.levels.values(), cell.name):
        if not isinstance(own.get(name) or {}, Mapping):
            raise InputError(f"tuning.spaces.{name} is {own[name]!r}; give {{lr: [low, high]}}")
        declared.update(own.get(name) or {})
    ranges = {}
    for dimension in dimensions:
        if dimension not in DIMENSIONS:
            raise unknown_name("tuning dimension", dimension, DIMENSIONS)
        if dimension not in declared:
            raise InputError(
                f"{cell.name}: no range of {dimension} is declared for optimizer '{optimizer}'; give one: "
                f"tuning: {{spaces: {{{optimizer}: {{{dimension}: [low, high]}}}}}}"
            )
        ranges[tuned_key(dimension)] = _range(cell, dimension, declared[dimension])
    return ranges


def tuning_bounds(cell: Cell, dimensions: Sequence[str]) -> Ranges:
    """Return the bounds that the ranges of a cell's tuned keys never leave."""
    method = find_optimizer(cell.settings["optimizer.name"])
    bounds = {**BOUNDS, **(method.bounds if method else {})}
    return {tuned_key(dimension): bounds[dimension] for dimension in dimensions}


def apply(values: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration keys with tuned values in place."""
    keys = dict(settings)
    for name, value in values.items():
        if name == tuned_key("one_minus_beta1"):
            keys.update(_with_beta1(1 - value, settings))
        else:
            keys[name] = value
    return keys


def _with_beta1(beta1: float, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Beta of momentum methods is a key of its own, that of Adam's relatives the first of two."""
    method = find_optimizer(settings["optimizer.name"])
    if method and method.beta1_key == "momentum":
        return {"optimizer.momentum": beta1}
    own = (method.options if method else {}).get("betas", (0.9, 0.999))
    return {"optimizer.betas": [beta1, *(settings["optimizer.betas"] or own)[1:]]}


def _range(cell: Cell, dimension: str, bounds: Any) -> tuple[float, float]:
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 < low < high:
        raise InputError(f"{cell.name}: the range of {dimension} is {bounds!r}; give [low, high], both above 0")
    most = tuning_bounds(cell, [dimension])[tuned_key(dimension)][1]
    if high > most:
        raise InputError(f"{cell.name}: the range of {dimension} is {bounds!r}; it must end at {most:g} or below")
    return low, high


_EDGE = 1 / 8  # of a range on a logarithmic scale
_NO_END = (0.0, math.inf)
_STEP = 2.0  # between learning rates of a sweep


def trial_values(ranges: Ranges, n_trials: int, first_seed: int, repeat: int) -> list[dict[str, float]]:
    """The points that a cell tries: scrambled Sobol numbers, the same for every cell, on logarithmic axes.

    Twice as many trials begin with the same ones. The numbers are those of scipy's `qmc.Sobol` (Sobol 1967, directions
    of Joe and Kuo 2008), scrambled by random matrices and a shift (Matousek 1998).
    """
    keys = list(ranges)
    points = _sobol(len(keys), int(math.log2(n_trials)), first_seed + repeat)
    return [{key: _between(ranges[key], u) for key, u in zip(keys, point, strict=True)} for point in points]


@cache
def _sobol(n_dimensions: int, log2_n: int, seed: int) -> list[list[float]]:
    from scipy.stats import qmc

    points: list[list[float]] = qmc.Sobol(n_dimensions, scramble=True, rng=seed).random_base2(log2_n).tolist()
    return points


def _between(bounds: tuple[float, float], share: float) -> float:
    low, high = bounds
    return float(f"{low * (high / low) ** share:.6g}")  # six digits are read and compared everywhere alike


def winner(trials: Sequence[RunResult], objective: str) -> RunResult | None:
    """The trial with the least loss; of equals the first; None when all diverged."""
    best = min(trials, key=lambda r: (r.loss(objective), r.widened, r.trial), default=None)
    return best if best is not None and math.isfinite(best.loss(objective)) else None


def tuned(trials: Sequence[RunResult], objective: str, tuning: Tuning) -> RunResult | None:
    """The winner of one tuning draw; None when all of its trials diverged.

    Where the trials of a widened range replace the others, it is theirs, unless all of them diverged.
    """
    wider = [trial for trial in trials if trial.widened and tuning.widening == REPLACE]
    return winner(wider, objective) or winner(trials, objective)


def edge(value: float, bounds: tuple[float, float]) -> str:
    """`low` or `high` for a value in the outer eighth of its range on a logarithmic scale, else empty."""
    low, high = bounds
    share = math.log(value / low) / math.log(high / low)
    return "low" if share < _EDGE else "high" if share > 1 - _EDGE else ""


def widened(ranges: Ranges, best: Mapping[str, float], bounds: Mapping[str, tuple[float, float]]) -> Ranges | None:
    """The ranges with half their width more on the side where the best trial lies; None if none grows.

    Args:
        ranges: Lowest and highest value by tuned key.
        best: Values of the best trial.
        bounds: What no range leaves, by tuned key; empty: none has an end.
    """
    wider = {}
    for key, (low, high) in ranges.items():
        half = math.sqrt(high / low)
        side = edge(best[key], (low, high))
        least, most = bounds.get(key, _NO_END)
        to_low = max(low / half, least) if side == "low" else low
        to_high = min(high * half, most) if side == "high" else high
        wider[key] = (to_low, to_high)
    return wider if wider != dict(ranges) else None


def wider_space(tuning: Tuning, cell: str, best: RunResult) -> Ranges | None:
    """The ranges that a tuning draw searches after those that were declared, see `WIDENINGS`; None: it is done.

    Args:
        tuning: How the cell is tuned.
        cell: Its name.
        best: The best trial of the draw in the declared ranges.
    """
    ranges, bounds = tuning.spaces[cell], tuning.bounds.get(cell, {})
    if tuning.widening == REPLACE:  # only the rate: a winner lies at an edge of a key that does not matter by chance
        rate = tuned_key("lr")
        wider = widened({rate: ranges[rate]}, best.values, bounds)
        return {**ranges, **wider} if wider else None
    free = widened(ranges, best.values, {})
    tried = trial_values(free, tuning.trials, tuning.first_seed, best.repeat) if free else []
    limits = {key: bounds.get(key, _NO_END) for key in ranges}
    if all(limits[key][0] <= value <= limits[key][1] for values in tried for key, value in values.items()):
        return free  # as the first studies searched; where it left the bounds, they could not go on
    return widened(ranges, best.values, bounds)


def sweep_rates(lr: float, n: int) -> list[float]:
    """`n` learning rates around `lr`, each twice the one before: a third below it, the others above."""
    below = n // 3
    factors = [*range(-below, 0), *range(1, n - below + 1)]
    return [float(f"{lr * _STEP**k:.6g}") for k in factors]


def searched(tuning: Tuning, cell: str, trials: Sequence[RunResult], objective: str) -> Ranges:
    """The ranges that a tuning draw was searched over: the declared ones, or the wider ones that it has trials of."""
    ranges = dict(tuning.spaces[cell])
    if not any(trial.widened for trial in trials):
        return ranges
    first = winner([trial for trial in trials if not trial.widened], objective)
    return (wider_space(tuning, cell, first) if first else None) or ranges
