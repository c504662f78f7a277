"""Values as words and tables of Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

_ENTITIES = {ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;"}
_MEANING = {ord(letter): f"\\{letter}" for letter in "\\`[]|!"} | _ENTITIES


def escaped(value: Any) -> Any:
    """Texts of a run folder, nested in lists and mappings too, that say no more than their letters in Markdown."""
    if isinstance(value, Mapping):
        return {escaped(key): escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(inner) for inner in value]
    return " ".join(value.split()).translate(_MEANING) if isinstance(value, str) else value


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def in_words(values: Mapping[str, Any]) -> str:
    """Keys with their values, those that are set."""
    return ", ".join(f"{key} {safe_name(value)}" for key, value in values.items() if value not in (None, "", []))


def name_of(value: Any) -> str:
    """A name, also of a class given by its path."""
    return str(value.get("class_path", value)) if isinstance(value, Mapping) else str(value)


def safe_name(value: Any) -> str:
    """The name of a foreign thing, escaped."""
    return str(escaped(name_of(value)))


def counts(values: Mapping[str, int]) -> str:
    """Names with their numbers of volumes."""
    return ", ".join(f"{name} ({n} volumes)" for name, n in values.items())
