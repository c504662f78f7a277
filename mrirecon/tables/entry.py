"""What all tables share: finding an entry by name, importing what it names, and listing names in help texts."""

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

from mrirecon.errors import unknown_name

E = TypeVar("E")
_PLACEHOLDER = re.compile(r"\{([A-Z]+)(?::([a-z0-9_]+))?\}")


def builder(build: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return what builds a thing; of a path `"package.module:name"`, the module is imported now and no earlier."""
    if callable(build):
        return build
    module, _, name = build.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def named(table: Mapping[str, E], name: object, kind: str, hint: str = "") -> E:
    """The entry `name` of a table of `kind` ("norm", "mask", ...).

    Raises:
        InputError: No such entry; the message lists the known names and ends with `hint`.
    """
    if not isinstance(name, str) or name not in table:
        raise unknown_name(kind, name, table, hint)
    return table[name]


def fill_in(text: str) -> str:
    """A help text with its placeholders filled in from the tables as they are now.

    `{NORMS}` becomes the names of the table `mrirecon.tables.norms.NORMS`, and `{NORMS:help}` each name with its help.
    `{NORMS:n_groups}` becomes the names of the entries that have the option `n_groups`, with its value where entries
    give one; so does the name of a field that is a number (`{OPTIMIZERS:lr}`).
    """
    return _PLACEHOLDER.sub(lambda found: _listed(_table(found[1]), found[2]), text)


def _table(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(import_module(f"mrirecon.tables.{name.lower()}"), name)
    return found


def _listed(table: Mapping[str, Any], what: str | None) -> str:
    if what is None:
        return ", ".join(table)
    if what == "help":
        return ", ".join(f"{name} ({entry.help})" for name, entry in table.items())
    by_value: dict[str, list[str]] = {}
    for name, entry in table.items():
        options = getattr(entry, "options", ())
        if what in options:
            by_value.setdefault(_typed(options[what]) if isinstance(options, Mapping) else "", []).append(name)
        elif hasattr(entry, what):
            by_value.setdefault(_typed(getattr(entry, what)), []).append(name)
    return "; ".join(f"{', '.join(names)} {value}".rstrip() for value, names in by_value.items())


def _typed(value: Any) -> str:
    """A value as it is typed after a flag."""
    if isinstance(value, tuple | list):
        return " ".join(map(_typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
