"""Texts made of templates: the jinja2 environments of the report's rooms."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(folder: Path, escape: bool, filters: Mapping[str, Callable[..., Any]] | None = None) -> Environment:
    """Return an environment that renders the templates in `folder`; a name without a value is an error.

    Args:
        folder: Of the templates.
        escape: Escape every value for HTML.
        filters: Functions that templates apply with `|`, by name.
    """
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escape,
    )
    made.filters.update(filters or {})
    return made
