"""How the figures of the reports look, and how they become files."""

import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
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


# ---- the panels of a study's figures, and which colour, line and panel each of its cells has: the same in all
# figures


# Okabe and Ito's palette, safe for the colour-blind, without its yellow, which is too light for lines
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4d4d4d")
LINES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))


@dataclass(frozen=True)
class CellStyle:
    """Colour, line and legend entry of a cell."""

    colour: str
    line: Any  # a name or a pattern of dashes, as matplotlib takes it
    label: str  # within its panel


@dataclass(frozen=True)
class Panel:
    """Cells that are drawn into one pair of axes."""

    title: str
    cells: Sequence[Mapping[str, Any]]


def varied(study: Mapping[str, Any]) -> list[str]:
    """Return the factors with more than one level; the first factor where none has."""
    names = [name for name, levels in study["factors"].items() if len(levels) > 1]
    return names or list(study["factors"])[:1]


def cell_styles(study: Mapping[str, Any]) -> dict[str, CellStyle]:
    """Return the style of each cell: colour by the first varied factor, line by those from the third on.

    The second varied factor has the panels. The colours are those of Okabe and Ito (2008), a grey in place
    of yellow and black.
    """
    first, *others = varied(study)
    further = others[1:]
    levels = list(study["factors"][first])
    combinations: list[tuple[str, ...]] = []
    styles = {}
    for cell in study["cells"]:
        place = levels.index(cell["levels"][first])
        combination = tuple(cell["levels"][name] for name in further)
        if combination not in combinations:
            combinations.append(combination)
        line = combinations.index(combination) + place // len(COLOURS)
        name = ", ".join([cell["levels"][first], *combination])
        styles[cell["cell"]] = CellStyle(COLOURS[place % len(COLOURS)], LINES[line % len(LINES)], name)
    return styles


def panels(study: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Return a panel for each level of the second varied factor that `cells` have; one panel without such a factor."""
    names = varied(study)
    if len(names) < 2:
        return [Panel("", cells)]
    second = names[1]
    found = {level: [cell for cell in cells if cell["levels"][second] == level] for level in study["factors"][second]}
    return [Panel(f"{second}: {level}", group) for level, group in found.items() if group]


Cell = Mapping[str, Any]
DrawCell = Callable[[Axes, Cell, CellStyle], None]
_HEIGHT, _ALONE = 2.9, 6.4  # inches: height of a row, width of a single panel
Marks = Sequence[tuple[str, Mapping[str, Any]]]  # further entries of the legend: name, look of the line


def draw_panels(
    study: Mapping[str, Any],
    cells: Sequence[Cell],
    draw: DrawCell,
    *,
    xlabel: str,
    ylabel: str,
    why_not: str,
    finish: Callable[[Axes], None] = lambda _axes: None,
    marks: Marks = (),
) -> Figure:
    """Draw each cell into its panel, with one legend above.

    Args:
        study: Schema 1.
        cells: Those that have what is drawn.
        draw: Draws one cell.
        xlabel: Of all panels.
        ylabel: Of all panels.
        why_not: Said where there are no cells.
        finish: Called for each pair of axes at the end.
        marks: Further entries of the legend.

    Raises:
        NothingToDrawError: There are no cells.
    """
    if not cells:
        raise NothingToDrawError(why_not)
    groups, styles = panels(study, cells), cell_styles(study)
    columns = len(groups) if len(groups) <= 4 else 3
    rows = math.ceil(len(groups) / columns)
    width = _ALONE if columns == 1 else WIDTH
    figure = Figure(figsize=(width, 0.45 + _HEIGHT * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, group in zip(grid.flat, groups, strict=False):
        axes.set_title(label(group.title), loc="left")
        for cell in group.cells:
            draw(axes, cell, styles[cell["cell"]])
    _name_axes(grid, len(groups), xlabel, ylabel)
    for axes in list(grid.flat)[: len(groups)]:
        finish(axes)
    _legend(figure, study, cells, styles, marks)
    return figure


def _name_axes(grid: Any, n_panels: int, xlabel: str, ylabel: str) -> None:
    columns = grid.shape[1]
    for i, axes in enumerate(grid.flat):
        if i >= n_panels:
            axes.set_visible(False)
            continue
        if i % columns == 0:
            axes.set_ylabel(ylabel)
        if i + columns >= n_panels:  # nothing below it
            axes.set_xlabel(xlabel)
            axes.tick_params(labelbottom=True)


def _legend(
    figure: Figure, study: Mapping[str, Any], cells: Sequence[Cell], styles: Mapping[str, CellStyle], marks: Marks
) -> None:
    drawn = {styles[cell["cell"]] for cell in cells}
    shown = [style for style in dict.fromkeys(styles.values()) if style in drawn]
    handles = [Line2D([], [], color=style.colour, linestyle=style.line) for style in shown]
    names = [label(style.label) for style in shown]
    handles += [Line2D([], [], **look) for _, look in marks]
    names += [name for name, _ in marks]
    per_row = 9 if figure.get_figwidth() > _ALONE else 5
    title = label(varied(study)[0]) if not marks else None
    figure.legend(
        handles,
        names,
        loc="outside upper left",
        ncols=min(len(names), per_row),
        title=title,
        alignment="left",
        handlelength=2.2,
        columnspacing=1.4,
    )
