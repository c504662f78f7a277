"""A row or grid of panels of one study: one for each level of the second factor, all on the same axes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mrirecon.report.figures.cell_styles import CellStyle, cell_styles, panels, varied
from mrirecon.report.figures.drawing import WIDTH, NothingToDrawError, label

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
