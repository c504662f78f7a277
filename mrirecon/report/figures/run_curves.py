"""Curves of a single run over optimizer steps, and the loss over the learning rates of a range test."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrirecon.files import replacing
from mrirecon.report.figures.drawing import COLOURS, WIDTH, NothingToDrawError, laid_out, spread_axis, styled
from mrirecon.tables.metrics import METRICS, heading_of

Rows = Sequence[Mapping[str, str]]
_HEIGHT = 2.5  # inches of a row of panels


def draw_run_curves(rows: Rows) -> Figure:
    """Draw loss, scores, learning rate and the size of gradients and steps over optimizer steps.

    Args:
        rows: Rows of the run's curves.csv.

    Raises:
        NothingToDrawError: No row holds any of them.
    """
    # the title of each panel with its columns of curves.csv and their names in the legend
    shown = [
        (title, columns)
        for title, columns in [
            ("loss", {"train_loss": "training", "val_loss": "validation"}),
            *((f"validation {heading_of(name)}", {f"val_{name}": ""}) for name in METRICS),
            ("learning rate", {"lr": ""}),
            ("gradient norm", {"grad_norm": ""}),
            ("update / weights", {"update_ratio": ""}),
        ]
        if any(column(rows, name)[0] for name in columns)
    ]
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
    """Return the steps and the values of a column of curves.csv; cells that hold no number are left out."""
    steps, values = [], []
    for row in rows:
        try:
            step, value = float(row["step"]), float(row[name])
        except (KeyError, TypeError, ValueError):
            continue
        steps.append(step)
        values.append(value)
    return steps, values


def _draw(axes: Axes, rows: Rows, title: str, columns: Mapping[str, str]) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel("optimizer step")
    for colour, (name, words) in zip(COLOURS, columns.items(), strict=False):
        steps, values = column(rows, name)
        few = len(steps) <= 40
        axes.plot(steps, values, color=colour, marker="." if few else "", markersize=4, linewidth=1.2, label=words)
        metric = METRICS.get(name.removeprefix("val_"))
        rises_to_a_limit = metric is not None and metric.higher_is_better
        if name != "lr" and not rises_to_a_limit:  # a rate that falls to nothing would fill a logarithmic axis
            spread_axis(axes.yaxis, values)
    if len(columns) > 1:
        axes.legend(loc="upper right")


def draw_range_test(
    path: Path, lrs: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], chosen: float
) -> None:
    """Draw the losses of a range test (Smith 2017) as a PNG file; the arguments are of `range_test_figure`."""
    with replacing(path) as temporary:
        range_test_figure(lrs, losses, smoothed, chosen).savefig(temporary, format="png", metadata={"Software": None})


def range_test_figure(
    lrs: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], chosen: float
) -> Figure:
    """Draw loss over learning rate, logarithmic where it is positive, up to four times the loss of the first step.

    It shows the learning rate range test of Smith (2017).

    Args:
        lrs: Learning rate of each step, rising.
        losses: Training loss of each step; what is not finite is not drawn.
        smoothed: Their running mean.
        chosen: The learning rate that the test chose, drawn as a vertical line.
    """
    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_title("learning rate range test", fontsize=10)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.set_xscale("log")
    axes.plot(lrs, losses, color="tab:blue", linewidth=0.7, alpha=0.5, label="each step")
    axes.plot(lrs, smoothed, color="tab:blue", linewidth=1.6, label="running mean")
    axes.axvline(chosen, color="tab:orange", linewidth=1.5, label=f"chosen: {chosen:.1e}")
    low = min(value for value in losses if math.isfinite(value))
    if low > 0:
        axes.set_yscale("log")
        axes.set_ylim(0.7 * low, 4 * losses[0])
    axes.legend(fontsize=8)
    return figure
