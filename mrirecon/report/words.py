"""Numbers, settings and templates as the text of a page."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

NONE = "–"  # what is not there


def number(value: float | None, digits: str) -> str:
    """Return a number in a format such as `.4f`, or a dash for None."""
    return NONE if value is None else f"{value:{digits}}".replace("-", "\u2212")


def how_many(n: int, noun: str) -> str:
    """Return a number of things: `1 volume`, `2 volumes`, `30,089 parameters`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def interval(values: Mapping[str, Any] | None, digits: str) -> str:
    """Return `low` and `high` of the values as `[0.9101, 0.9145]`; empty where there is no interval."""
    low, high = (values or {}).get("low"), (values or {}).get("high")
    return "" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def p_value(p: float | None) -> str:
    """Return a p value with three digits after the point, as papers have it."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent(share: float) -> str:
    """Return a share, 0.995, as `99.5 %`."""
    return f"{100 * share:g} %"


def duration(seconds: float | None) -> str:
    """Return seconds in ms, s, min or h, whichever suits them."""
    if seconds is None:
        return NONE
    for limit, factor, unit in ((1, 1e3, "ms"), (120, 1, "s"), (7200, 1 / 60, "min")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds / 3600:.1f} h"


def size(n_bytes: float | None) -> str:
    """Return bytes in B, kB, MB or GB, powers of ten."""
    if n_bytes is None:
        return NONE
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes:g} B"


def masks_in_words(masks: Mapping[str, Any]) -> str:
    """Return the masks that `masks_used` recorded as text: `random, 4x (center fraction 0.08)`."""
    own = masks.get("own")
    range_of_own = " to ".join(dict.fromkeys(f"{r:.2f}x" for r in own["acceleration_true"])) if own else ""
    if own and own["volumes"] == own["of"]:
        return f"the files' own, true {range_of_own}"
    fractions = masks.get("center_fractions") or [None] * len(masks["accelerations"])
    pairs = [
        f"{r:g}x" + ("" if f is None else f" (center fraction {f:g})")
        for r, f in zip(masks["accelerations"], fractions, strict=False)
    ]
    drawn = f"{masks['name']}, {' or '.join(pairs)}"
    return f"{drawn}; the own masks of {own['volumes']} of {own['of']} files, true {range_of_own}" if own else drawn


def setting(study: Mapping[str, Any], volumes: str, ending: str) -> str:
    """Return what the numbers of a study stand on, in one line: volumes, masks, model, budget, and an ending."""
    data = study.get("data") or {}
    accelerations = " and ".join(f"{r:g}x" for r in data.get("acceleration") or ())
    masks = f"{data.get('mask') or ''} {accelerations}".strip()
    return "; ".join(str(part) for part in (volumes, masks, study.get("model"), study.get("budget"), ending) if part)


def capital(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def tuned(values: Mapping[str, Any]) -> str:
    """Return tuned values under the last part of their keys: `lr 3.2e-03`."""
    return ", ".join(f"{key.rpartition('.')[2]} {_three(value)}" for key, value in values.items()) or NONE


def _three(value: Any) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    return f"{value:.3g}" if value == 0 or 0.01 <= abs(value) < 1000 or not math.isfinite(value) else f"{value:.2e}"


# ---- texts made of templates


def environment(folder: Path, escape: bool, filters: Mapping[str, Callable[..., Any]] | None = None) -> "Environment":
    """Return an environment that renders the templates in `folder`; a name without a value is an error.

    Args:
        folder: Of the templates.
        escape: Escape every value for HTML.
        filters: Functions that templates apply with `|`, by name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
