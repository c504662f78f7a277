"""How the figures of the reports look, and how they become files."""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mrirecon.files import replacing

WIDTH = 10.4  # inches; the width of the page's text
INK, FAINT = "#222222", "#8a8a8a"
_LOG_FROM = 4.0  # ratio of largest to smallest from which an axis is logarithmic
_DPI = 160
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "path",  # a browser need not have the font
    "svg.hashsalt": "mrirecon",  # equal figures give equal files
}


class NothingToDrawError(Exception):
    """A figure's data are not there; the message says why."""


@contextmanager
def styled() -> Iterator[None]:
    """Give figures made and saved inside the common style."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in another script
        yield


def laid_out(figure: Figure) -> Figure:
    """Place everything of a figure once: each file would otherwise do it again, which takes as long as drawing."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def as_svg(figure: Figure) -> str:
    """Return the figure as an SVG document."""
    text = io.StringIO()
    with styled():
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all, as PNG or SVG by the ending of `path`."""
    metadata: dict[str, str | None] = {"Software": None} if path.suffix == ".png" else {"Date": None, "Creator": None}
    with replacing(path) as temporary, styled():
        figure.savefig(temporary, format=path.suffix[1:], dpi=_DPI, metadata=metadata)


def label(text: object) -> str:
    """Return text of the data for a figure: a dollar starts no formula, a leading underscore hides no legend entry."""
    plain = str(text).replace("$", r"\$")
    return f"\u200a{plain}" if plain.startswith("_") else plain


def spread_axis(axis: Axis, values: Sequence[float | None]) -> None:
    """Make an axis logarithmic, with plain numbers, where its values are positive and spread far enough."""
    numbers = [v for v in values if v is not None]
    if not numbers or min(numbers) <= 0 or max(numbers) / min(numbers) < _LOG_FROM:
        return
    axis._set_axes_scale("log")  # type: ignore[attr-defined]
    decades = math.log10(max(numbers) / min(numbers))
    subs = (1, 2, 3, 5) if decades < 1.5 else (1, 2, 5) if decades < 2.5 else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())  # hundreds of ticks without numbers


def short(value: float) -> str:
    """Return a number as a logarithmic axis shows it: 0.05, 200, 1e-4."""
    return f"{value:g}" if 1e-3 <= abs(value) < 1e4 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
