"""Where each optimizer is searched: its entry's range of each dimension, or the grid's own. No torch here."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.ablation.study.grid import Cell
from mrirecon.errors import InputError, unknown_name
from mrirecon.tables.optimizers import find_optimizer

Ranges = dict[str, tuple[float, float]]
DIMENSIONS = ("lr", "one_minus_beta1", "weight_decay")


def tuned_key(dimension: str) -> str:
    """What a dimension is called in records: optimizer.lr."""
    return f"optimizer.{dimension}"


def tuning_spaces(cell: Cell, dimensions: Sequence[str], own: Mapping[str, Any]) -> Ranges:
    """Lowest and highest value of every tuned key of a cell, searched on a logarithmic scale.

    Args:
        cell: Its optimizer's ranges are taken.
        dimensions: Names of `DIMENSIONS`; the same for all cells of a grid.
        own: The grid's ranges by cell, level or optimizer, which go before the optimizer's own.

    Raises:
        InputError: An unknown dimension, an optimizer without a declared range, a range that is none.
    """
    optimizer = str(cell.settings["optimizer.name"])
    method = find_optimizer(optimizer)
    declared: dict[str, Any] = dict(method.space) if method else {}
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
    """Beta of momentum methods is a key of its own, that of Adam's relatives the first of two; the second stays."""
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
    return low, high
