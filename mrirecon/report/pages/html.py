"""Pages of one HTML file, which load nothing and run no foreign script: templates, and tables as plain values."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mrirecon.errors import InputError
from mrirecon.files import read_plain
from mrirecon.report.figures.drawing import NothingToDrawError
from mrirecon.report.words import NONE, environment, interval, number
from mrirecon.tables.metrics import digits_of

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("tables.js", "viewer.js")
_MOST_BYTES = 2**26  # of the pictures of one folder, which a page holds
_PNG = b"\x89PNG\r\n\x1a\n"
_PAGES = environment(_TEMPLATES, escape=True)


def render(template: str, **values: Any) -> str:
    """Render a template as a page; every text of `values` is escaped.

    Its content security policy (https://www.w3.org/TR/CSP3/) lets nothing be loaded, and only its own scripts run.
    """
    scripts = [Markup((_TEMPLATES / name).read_text(encoding="utf-8")) for name in _SCRIPTS]
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    page = _PAGES.get_template(template)
    # the content security policy: images are inside the page, and only its own scripts run
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return page.render(
        scripts=scripts,
        style=style,
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}",
        **values,
    )


def data_uri(kind: str, content: bytes) -> str:
    """Return a file of the media type `kind` as an address that holds it, for use inside a page.

    The form is that of RFC 2397 (1998).
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def pictures(files: list[Path]) -> list[tuple[str, str]]:
    """Return names and data URIs of pictures.

    Raises:
        InputError: One is no PNG, but a link to something else for example, which the page would give away.
    """
    found, n_bytes = [], 0
    for file in files:
        content = read_plain(file, _MOST_BYTES)
        n_bytes += len(content)
        if not content.startswith(_PNG):
            raise InputError(f"{file} is no PNG picture; remove it")
        if n_bytes > _MOST_BYTES:
            raise InputError(f"the pictures in {file.parent} have more than {_MOST_BYTES / 2**20:g} MiB; remove some")
        found.append((file.stem, data_uri("image/png", content)))
    return found


@dataclass(frozen=True)
class Drawn:
    """A figure inside a page, or why there is none."""

    name: str
    title: str
    caption: str
    source: str  # data URI, empty: nothing to draw
    why_not: str = ""


def drawn(name: str, title: str, caption: str, svg: Callable[[], str]) -> Drawn:
    """Return the figure whose SVG document `svg` makes, or the reason why there is nothing to draw."""
    try:
        return Drawn(name, title, caption, data_uri("image/svg+xml", svg().encode()))
    except NothingToDrawError as missing:
        return Drawn(name, title, "", "", str(missing))


@dataclass(frozen=True)
class Column:
    """The head of a column; numbers stand to the right and are sorted as numbers."""

    title: str
    numeric: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Bar:
    """A mean with its interval on the column's common scale, all from 0 to 100."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Entry:
    """The content of one place of a table."""

    text: str
    value: float | None = None  # what it is sorted by; None: its text, or last among numbers
    note: str = ""  # second line, small
    kind: str = ""  # class of the style sheet
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    """A table of a page."""

    name: str  # its id
    columns: Sequence[Column]
    rows: Sequence[Sequence[Entry]]
    caption: str = ""
    marked: Sequence[int] = field(default_factory=tuple)  # rows that stand out


def counted(value: float | None, digits: str = "g") -> Entry:
    """Return a number as an entry by which its column is sorted."""
    return Entry(number(value, digits), value)


def measured(values: Mapping[str, Any] | None, digits: str, bar: Bar | None = None) -> Entry:
    """Return a mean as an entry with its interval below."""
    mean = (values or {}).get("mean")
    return Entry(number(mean, digits), mean, interval(values, digits), bar=bar)


def scored(values: Mapping[str, Any] | None, metric: str) -> Entry:
    """Return a mean score as an entry with its interval, in the metric's digits."""
    return measured(values, digits_of(metric))


def bars(column: Sequence[Mapping[str, Any] | None]) -> list[Bar | None]:
    """Return bars of means with intervals, on one scale from the lowest to the highest."""
    ends = [
        (v.get("low") or v["mean"], v["mean"], v.get("high") or v["mean"])
        for v in column
        if v and v.get("mean") is not None
    ]
    if not ends:
        return [None for _ in column]
    low, high = min(e[0] for e in ends), max(e[2] for e in ends)
    scale = 100 / (high - low) if high > low else 0.0
    placed = iter([Bar(*(round((x - low) * scale, 2) for x in e)) for e in ends])
    return [next(placed) if v and v.get("mean") is not None else None for v in column]


def pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return keys with their values as text, nested keys dotted."""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found += [(f"{key}.{inner}", text) for inner, text in pairs(value)]
        else:
            found.append((str(key), _listed(value)))
    return found


def _listed(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or NONE
    return NONE if value in (None, {}, "") else str(value)
