"""The tuning of a grid, checked. No torch here."""

from collections.abc import Mapping
from typing import Any

from mrirecon.ablation.study.grid import Cell, Tuning
from mrirecon.ablation.study.grid_values import MOST, require_known
from mrirecon.ablation.study.records import AREA, FINAL, objectives
from mrirecon.ablation.study.spaces import DIMENSIONS, apply, tuned_key, tuning_spaces
from mrirecon.errors import InputError, unknown_name

_TUNING = ("trials", "repeats", "dimensions", "objectives", "first_seed", "sweep", "spaces")


def read_tuning(content: Mapping[str, Any], cells: tuple[Cell, ...], seeds: tuple[int, ...]) -> Tuning:
    """How the cells are tuned; `content` is the grid's section."""
    require_known("tuning", content, _TUNING)
    numbers = {name: content.get(name, getattr(Tuning, name)) for name in ("trials", "repeats", "first_seed", "sweep")}
    for name, value in numbers.items():
        if type(value) is not int or value < (0 if name in ("first_seed", "sweep") else 1):
            raise InputError(f"tuning.{name} is {value!r}; it must be a whole number from 1 on (sweep: from 0)")
    if numbers["trials"] & (numbers["trials"] - 1) or numbers["trials"] > MOST:
        raise InputError(
            f"tuning.trials is {numbers['trials']}; Sobol points need a power of two: 4, 8, 16, 32 (at most {MOST})"
        )
    dimensions = content.get("dimensions", ["lr"])
    dimensions = [dimensions] if isinstance(dimensions, str) else dimensions
    if not isinstance(dimensions, list) or "lr" not in dimensions:
        raise InputError(
            f"tuning.dimensions is {dimensions}; it must hold lr (and may hold {', '.join(DIMENSIONS[1:])})"
        )
    own = content.get("spaces") or {}
    require_known("tuning.spaces", own, _searched(cells))
    spaces = {cell.name: tuning_spaces(cell, dimensions, own) for cell in cells}
    _require_untuned(cells, dimensions)
    tuning = Tuning(
        **numbers,
        dimensions=tuple(tuned_key(name) for name in dimensions),
        objectives=_objectives(content.get("objectives", "final")),
        spaces=spaces,
    )
    if shared := set(tuning.seeds) & set(seeds):
        raise InputError(f"seed {min(shared)} is of the tuning and of the reruns; move tuning.first_seed")
    return tuning


def _searched(cells: tuple[Cell, ...]) -> tuple[str, ...]:
    """What a range may be given for: an optimizer, a level or a cell."""
    names = [name for c in cells for name in (str(c.settings["optimizer.name"]), *c.levels.values(), c.name)]
    return tuple(dict.fromkeys(names))


def _require_untuned(cells: tuple[Cell, ...], dimensions: list[str]) -> None:
    """What is tuned cannot be a level too: the trials would write over it, and two cells be one."""
    seen: dict[str, str] = {}
    for cell in cells:
        tuned = apply({tuned_key(name): 0.5 for name in dimensions}, cell.settings)
        same = seen.setdefault(repr(sorted(tuned.items())), cell.name)
        if same != cell.name:
            raise InputError(
                f"cells {same} and {cell.name} are the same once {', '.join(dimensions)} is tuned; "
                "leave one out, or do not tune what they differ in"
            )


def _objectives(name: Any) -> tuple[str, ...]:
    known = {name: (name,) for name in objectives()} | {"loss": (FINAL,), "both": (FINAL, AREA)}
    if not isinstance(name, str) or name not in known:
        raise unknown_name("objective", name, known)
    return known[name]
