"""What all tables share: finding an entry by name, importing what it names, and listing names in help texts."""

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

from mrirecon.errors import unknown_name

E = TypeVar("E")
_PLACEHOLDER = re.compile(r"\{([A-Z]+)(?::([a-z_]+))?\}")


def builder(build: str | Callable[..., Any]) -> Callable[..., Any]:
    """What builds a thing; of a path `"package.module:name"`, the module is imported now and no earlier."""
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

    `{NORMS}` becomes the names of the table `mrirecon.tables.norms.NORMS`; `{NORMS:n_groups}` those of the entries that
    have the option `n_groups`, each with its own default where entries give one.
    """
    return _PLACEHOLDER.sub(lambda found: _names(_table(found[1]), found[2]), text)


def _table(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(import_module(f"mrirecon.tables.{name.lower()}"), name)
    return found


def _names(table: Mapping[str, Any], option: str | None) -> str:
    if option is None:
        return ", ".join(table)
    having = {name: entry.options for name, entry in table.items() if option in entry.options}
    by_default: dict[str, list[str]] = {}
    for name, options in having.items():
        default = _written(options[option]) if isinstance(options, Mapping) else ""
        by_default.setdefault(default, []).append(name)
    return "; ".join(", ".join(names) + (f" ({default})" if default else "") for default, names in by_default.items())


def _written(default: Any) -> str:
    """A default as it is typed after a flag."""
    return " ".join(map(_written, default)) if isinstance(default, tuple | list) else f"{default:g}"
