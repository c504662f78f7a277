"""Refuse tables that must not be compared: other protocols, kinds of mask, origins or splits."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mrirecon.errors import InputError
from mrirecon.evaluation.results import UNDECLARED, Fault, VolumeResult


@dataclass(frozen=True)
class Table:
    """The rows of one evaluation; facts of its summary are empty where nothing is known."""

    name: str  # in messages
    rows: Sequence[VolumeResult]
    split: str = ""
    slices: str = ""  # "all", or which
    faults: Sequence[Fault] = ()  # rows that cannot be used
    file: str = ""  # in messages about rows

    def values(self, field: str) -> list[Any]:
        """The different values of a column, sorted."""
        return sorted({getattr(row, field) for row in self.rows})

    @property
    def undeclared(self) -> str:
        """The undeclared properties of its masks: `mask`, `acceleration`, both joined by `or`, or an empty text."""
        parts = ["mask"] * bool({UNDECLARED, ""} & set(self.values("mask")))
        parts += ["acceleration"] * any(math.isnan(row.acceleration) for row in self.rows)
        return " or ".join(parts)


def of_origin(table: Table, origin: str) -> Table:
    """The rows of one origin.

    Raises:
        InputError: There are none.
    """
    rows = [row for row in table.rows if row.origin == origin]
    if not rows:
        raise InputError(
            f"{table.name} has no volumes of the origin '{origin}', but of {', '.join(table.values('origin'))}"
        )
    return replace(table, rows=rows)


def require_comparable(tables: Sequence[Table], allow_undeclared: bool = False) -> None:
    """Refuse tables that must not be mixed.

    Raises:
        InputError: The message names the first difference and who differs.
    """
    for table in tables:
        _require_one_kind(table)
    for table in tables:
        if table.undeclared and not allow_undeclared and not all(map(_is_bare, tables)):
            how = (
                "columns mask and acceleration"
                if _is_bare(table)
                else "mrirecon score ... --mask NAME --acceleration R"
            )
            raise InputError(
                f"{table.name} declares no {table.undeclared}; declare it ({how}), or add --allow-undeclared"
            )
    for what, (fact, advice) in _FACTS.items():
        known = [(table.name, fact(table)) for table in tables if fact(table)]
        for name, value in known[1:]:
            if value != known[0][1]:
                raise InputError(f"different {what}: {known[0][1]} in {known[0][0]}, {value} in {name}; {advice}")


def _is_bare(table: Table) -> bool:
    """Say whether a table has no column of masks; where none has, there is nothing that could be mixed."""
    return table.values("mask") == [""]


def _require_one_kind(table: Table) -> None:
    """Within a table there is one of everything but volumes, draws and accelerations."""
    if not table.rows:
        raise InputError(f"{table.name} has no rows; evaluate again")
    for field, advice in _ONE_OF_EACH.items():
        values = table.values(field)
        if len(values) > 1:
            raise InputError(f"{table.name} mixes {field}s ({', '.join(values)}), which no mean may do; {advice}")


def _accelerations(table: Table) -> str:
    known = {row.acceleration for row in table.rows if not math.isnan(row.acceleration)}
    return ", ".join(f"{value:g}x" for value in sorted(known))


_ONE_OF_EACH = {
    "protocol": "keep the rows of one",
    "mask": "keep the rows of one",
    "origin": "choose one with --origin",
    "reconstructor": "give each its own table",
    "checkpoint": "give each its own table",
}
_FACTS: dict[str, tuple[Callable[[Table], str], str]] = {
    "protocols": (lambda t: t.rows[0].protocol, "evaluate all with one --protocol (foreign images: one --crop)"),
    "masks": (lambda t: t.rows[0].mask.replace(UNDECLARED, ""), "evaluate all with one --mask"),
    "accelerations": (_accelerations, "evaluate all at one --acceleration"),
    "origins": (lambda t: t.rows[0].origin, "measured and simulated k-space are never mixed; compare each on its own"),
    "splits": (lambda t: t.split, "evaluate all on one --split"),
    "slices": (lambda t: t.slices, "evaluate all with the same --slices"),
}
