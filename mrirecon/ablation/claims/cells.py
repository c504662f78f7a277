"""Find the cells that a claim is about by their settings, whatever the grid calls them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mrirecon.ablation.study.grid import Cell, Grid
from mrirecon.ablation.study.tune import tuned_key
from mrirecon.tables.optimizers import find_optimizer

Needs = Mapping[str, Any]  # dotted key -> its value, or a function that says whether it is one
BETA1 = "optimizer.beta1"  # momentum, or the decay of the first moment: the same idea under two keys
OPTIMIZER = ("optimizer.",)  # keys that two cells may differ in when optimizers are compared
NORM = ("model.norm", "model.channels_per_group", "model.n_groups")
GROUPS = ("model.channels_per_group", "model.n_groups")
POSITION = ("model.norm_position",)
BATCH = ("batch_size",)

_RAW = ("optimizer.momentum", "optimizer.betas", "optimizer.lr")


class Pair(NamedTuple):
    """Two cells that differ in what a claim is about and in nothing else."""

    first: str
    second: str


def matching(grid: Grid, needs: Needs) -> list[Cell]:
    """Return the cells that have these settings."""
    return [cell for cell in grid.cells if _has(effective(grid, cell), needs)]


def pairs(grid: Grid, first: Needs, second: Needs, may_differ: Sequence[str]) -> list[Pair]:
    """Cells of the one kind with cells of the other that have all settings but `may_differ` in common.

    Args:
        grid: The study.
        first: What the first cell of a pair has.
        second: What the second one has.
        may_differ: Keys; a group of keys where the name ends in a dot.
    """
    others = [(rest(grid, cell, may_differ), cell.name) for cell in matching(grid, second)]
    return [
        Pair(cell.name, name)
        for cell in matching(grid, first)
        for settings, name in others
        if settings == rest(grid, cell, may_differ) and name != cell.name
    ]


def rest(grid: Grid, cell: Cell, may_differ: Sequence[str]) -> dict[str, Any]:
    """The settings of a cell without some of them."""
    return {key: value for key, value in effective(grid, cell).items() if not _is_one_of(key, may_differ)}


def effective(grid: Grid, cell: Cell) -> dict[str, Any]:
    """A cell's settings with the beta that its method uses under one key; "tuned" where the tuning decides it."""
    settings = {key: value for key, value in cell.settings.items() if key not in _RAW}
    return settings | {BETA1: "tuned" if tuned_key("one_minus_beta1") in grid.tuning.dimensions else _beta1(cell)}


def _beta1(cell: Cell) -> float | None:
    method, settings = find_optimizer(cell.settings.get("optimizer.name")), cell.settings
    given = settings.get("optimizer.momentum")
    betas = settings.get("optimizer.betas") or [method.beta1 if method else None]
    return given if given is not None else betas[0]


def _has(settings: Mapping[str, Any], needs: Needs) -> bool:
    return all(
        wanted(settings.get(key)) if callable(wanted) else settings.get(key) == wanted for key, wanted in needs.items()
    )


def _is_one_of(key: str, names: Sequence[str]) -> bool:
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in names)
