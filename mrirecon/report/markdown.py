"""Values as words and tables of Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def in_words(values: Mapping[str, Any]) -> str:
    """Keys with their values, those that are set."""
    return ", ".join(f"{key} {name_of(value)}" for key, value in values.items() if value not in (None, "", []))


def name_of(value: Any) -> str:
    """A name, also of a class given by its path."""
    return str(value.get("class_path", value)) if isinstance(value, Mapping) else str(value)


def counts(values: Mapping[str, int]) -> str:
    """Names with their numbers of volumes."""
    return ", ".join(f"{name} ({n} volumes)" for name, n in values.items())
