"""Trainings that differ in their seed alone are one cell of a comparison."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from mrirecon.errors import InputError
from mrirecon.workflows.compare.items import Item

# what may differ between runs of one cell: where things are, how they are computed, what is kept, and the seed
_APART = (
    *("data.path", "data.workers", "data.check", "threads", "device", "logger", "output", "overwrite"),
    *("checkpoint_every", "checkpoints", "seed"),
)
_NUMBER = re.compile(r"[-_. ]*(seed|s)?[-_.]?\d+$")  # of a seed or a time at the end of a run's name


@dataclass(frozen=True)
class Cell:
    """One thing that is compared: trainings of one configuration, a method, or foreign images."""

    name: str
    items: tuple[Item, ...]  # by seed
    rows: tuple[int, ...]  # their places among all items
    seeds: tuple[int, ...]  # of the trainings; empty where it is not known
    settings: Mapping[str, Any] = field(default_factory=dict)  # keys of the training that other cells have differently


def group_by_seed(items: Sequence[Item], names: Sequence[str] = ()) -> list[Cell]:
    """The cells, in the order in which they first come.

    Args:
        items: What is compared.
        names: Of the cells, in that order; empty: of their run folders.

    Raises:
        InputError: One configuration twice with one seed, a single cell, or names that do not fit.
    """
    groups: dict[Any, list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(_identity(i, item), []).append(i)
    cells = [_cell(items, members) for members in groups.values()]
    if len(cells) < 2:
        raise InputError(
            f"{', '.join(item.table.name for item in items)} differ in their seed alone, so there is nothing to "
            "compare them with; add runs of another configuration"
        )
    return _with_settings(_named(cells, names))


def _identity(i: int, item: Item) -> Any:
    """Equal for what is one cell."""
    if item.config is None:
        return i
    decisive = {key: value for key, value in item.config.items() if key not in _APART}
    return repr(sorted(decisive.items())), item.table.rows[0].checkpoint, item.summary.get("bn_stats")


def _cell(items: Sequence[Item], members: Sequence[int]) -> Cell:
    rows = sorted(members, key=lambda i: _seed(items[i]))
    chosen = tuple(items[i] for i in rows)
    for a, b in pairwise(chosen):
        if _seed(a) == _seed(b):
            raise InputError(
                f"{a.table.name} and {b.table.name} are one configuration with one seed ({_seed(a)}), "
                "which says nothing about the spread; give one of them"
            )
    return Cell(_shared_name(chosen), chosen, tuple(rows), tuple(_seed(item) for item in chosen if item.config))


def _seed(item: Item) -> int:
    return int(item.config["seed"]) if item.config else 0


def _shared_name(items: Sequence[Item]) -> str:
    """`adam` of adam-s0 and adam-s1, or of adam/0 and adam/1."""
    if len(items) == 1:
        return items[0].name
    names = {_NUMBER.sub("", item.name) for item in items}
    if names == {""}:
        names = {item.run.path.parent.name for item in items if item.run}
    return names.pop() if len(names) == 1 else items[0].name


def _named(cells: Sequence[Cell], wanted: Sequence[str]) -> list[Cell]:
    if wanted and (len(wanted) != len(cells) or len(set(wanted)) < len(wanted)):
        found = ", ".join(cell.name for cell in cells)
        raise InputError(f"--names {' '.join(wanted)}; give {len(cells)} different names, for {found} in this order")
    names = list(wanted) or [cell.name for cell in cells]
    if len(set(names)) < len(names):  # of equal names none tells which: what was typed does
        names = [cell.items[0].table.name for cell in cells]
    return [replace(cell, name=name) for cell, name in zip(cells, names, strict=True)]


def _with_settings(cells: Sequence[Cell]) -> list[Cell]:
    configs = [cell.items[0].config for cell in cells]
    trained = [config for config in configs if config]
    keys = [key for key in (trained[0] if trained else ()) if key not in _APART]
    differing = [key for key in keys if any(config[key] != trained[0][key] for config in trained)]
    return [
        replace(cell, settings={key: config[key] for key in differing} if config else {})
        for cell, config in zip(cells, configs, strict=True)
    ]
