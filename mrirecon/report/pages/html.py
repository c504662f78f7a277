"""Pages of one file: templates, style and scripts put together; a page may load nothing and run no foreign script."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("tables.js", "viewer.js")


def render(template: str, **values: Any) -> str:
    """A page; every text of `values` is escaped."""
    scripts = [Markup((_TEMPLATES / name).read_text(encoding="utf-8")) for name in _SCRIPTS]
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    page = _environment().get_template(template)
    return page.render(scripts=scripts, style=style, policy=_policy(scripts), **values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _policy(scripts: list[Markup]) -> str:
    """Content security policy: images are inside the page, and only its own scripts run."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
