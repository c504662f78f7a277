"""Curves of a single run over optimizer steps, and the loss over the learning rates of a range test."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrirecon.files import replacing
from mrirecon.report.figures.drawing import WIDTH, NothingToDrawError, laid_out, spread_axis, styled
from mrirecon.report.figures.panels import COLOURS
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


_DPI = 100
Series = tuple[Sequence[float], Sequence[float]]


def draw_curves(path: Path, training: Series, validation: Series, title: str = "") -> None:
    """Training loss (logarithmic) and validation SSIM over optimizer steps, both (steps, values), as PNG."""
    (steps, losses), (val_steps, val_ssims) = training, validation
    canvas = Figure(figsize=(6.4, 3.6), dpi=_DPI, layout="constrained")
    left = canvas.subplots()
    left.set_title(title, fontsize=10, parse_math=False)
    left.set_xlabel("optimizer step")
    left.set_ylabel("training loss", color="tab:blue")
    left.plot(steps, losses, color="tab:blue", linewidth=1)
    if len(losses) and min(losses) > 0:
        left.set_yscale("log")
    if len(val_ssims):
        right = left.twinx()
        right.set_ylabel("validation SSIM", color="tab:orange")
        right.plot(val_steps, val_ssims, color="tab:orange", marker="o", markersize=3, linewidth=1)
    FigureCanvasAgg(canvas)
    with replacing(path) as temporary, _any_script():
        canvas.savefig(temporary, format="png", metadata={"Software": None})


@contextmanager
def _any_script() -> Iterator[None]:
    """No warning of letters that the font lacks: names may be of any script."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def draw_range_test(
    path: Path, lrs: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], chosen: float
) -> None:
    """Loss over learning rate, logarithmic where positive, with the rate that was chosen, as PNG."""
    canvas = Figure(figsize=(6.4, 3.6), dpi=_DPI, layout="constrained")
    axis = canvas.subplots()
    axis.set_title("learning rate range test", fontsize=10)
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss")
    axis.set_xscale("log")
    axis.plot(lrs, losses, color="tab:blue", linewidth=0.7, alpha=0.5, label="each step")
    axis.plot(lrs, smoothed, color="tab:blue", linewidth=1.6, label="running mean")
    axis.axvline(chosen, color="tab:orange", linewidth=1.5, label=f"chosen: {chosen:.1e}")
    low = min(value for value in losses if math.isfinite(value))
    if low > 0:
        axis.set_yscale("log")
        axis.set_ylim(0.7 * low, 4 * losses[0])
    axis.legend(fontsize=8)
    FigureCanvasAgg(canvas)
    with replacing(path) as temporary:
        canvas.savefig(temporary, format="png", metadata={"Software": None})
