"""The curves of a single run, from the rows of its curves.csv."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrirecon.report.figures.cell_styles import COLOURS
from mrirecon.report.figures.drawing import WIDTH, NothingToDrawError, laid_out, spread_axis, styled
from mrirecon.tables.metrics import METRICS, heading_of

Rows = Sequence[Mapping[str, str]]
_HEIGHT = 2.5  # inches of a row of panels


def draw_run_curves(rows: Rows) -> Figure:
    """Loss, scores, learning rate and the size of gradients and steps, over optimizer steps.

    Raises:
        NothingToDrawError: No row holds any of them.
    """
    shown = [(title, columns) for title, columns in _panels() if any(column(rows, name)[0] for name in columns)]
    if not shown:
        raise NothingToDrawError("No curves: the run has not written any row of curves.csv.")
    n_rows, n_columns = -(-len(shown) // 3), min(3, len(shown))
    with styled():
        figure = Figure(figsize=(WIDTH * max(n_columns, 2) / 3, _HEIGHT * n_rows), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in list(grid.flat)[len(shown) :]:
            axes.set_visible(False)
        for axes, (title, columns) in zip(grid.flat, shown, strict=False):
            _draw(axes, rows, title, columns)
        return laid_out(figure)


def column(rows: Rows, name: str) -> tuple[list[float], list[float]]:
    """Steps and values of a column, where it has any; what is no number is left out."""
    steps, values = [], []
    for row in rows:
        try:
            step, value = float(row["step"]), float(row[name])
        except (KeyError, TypeError, ValueError):
            continue
        steps.append(step)
        values.append(value)
    return steps, values


def _panels() -> list[tuple[str, dict[str, str]]]:
    """The title of each panel, and its columns with what they are called."""
    return [
        ("loss", {"train_loss": "training", "val_loss": "validation"}),
        *((f"validation {heading_of(name)}", {f"val_{name}": ""}) for name in METRICS),
        ("learning rate", {"lr": ""}),
        ("gradient norm", {"grad_norm": ""}),
        ("update / weights", {"update_ratio": ""}),
    ]


def _is_linear(column: str) -> bool:
    """Scores that rise to a limit; a rate that falls to nothing would fill a logarithmic axis."""
    metric = METRICS.get(column.removeprefix("val_"))
    return column == "lr" or (metric is not None and metric.higher_is_better)


def _draw(axes: Axes, rows: Rows, title: str, columns: Mapping[str, str]) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel("optimizer step")
    for colour, (name, words) in zip(COLOURS, columns.items(), strict=False):
        steps, values = column(rows, name)
        few = len(steps) <= 40
        axes.plot(steps, values, color=colour, marker="." if few else "", markersize=4, linewidth=1.2, label=words)
        if not _is_linear(name):
            spread_axis(axes.yaxis, values)
    if len(columns) > 1:
        axes.legend(loc="upper right")
