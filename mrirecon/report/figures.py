"""Pictures: reconstructions beside their reference, and training curves. Arrays in, PNG files out."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mrirecon.files import replacing

ERROR_GAIN = 10
_WHITE_PERCENTILE = 99.0  # bright fat under the scalp shall not darken the brain
_DPI, _MAX_NAME = 100, 36
_MIN_PANEL, _GAP, _TITLE, _CAPTION = 250, 8, 22, 24  # screen pixels
Series = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Panel:
    """One reconstruction of a slice with the line of numbers under it."""

    name: str
    image: np.ndarray  # (height, width)
    caption: str = ""


@dataclass(frozen=True)
class SliceFigure:
    """A slice, its reference and its reconstructions, first the zero-filled one."""

    target: np.ndarray  # (height, width)
    panels: Sequence[Panel]
    title: str = ""
    notes: Sequence[str] = field(default_factory=list)


def draw_slice(path: Path, figure: SliceFigure) -> None:
    """Target and reconstructions above, their errors times 10 below, all on one grey scale, as a grey PNG.

    The scale runs from 0 to the 99th percentile of the target slice, which the figure says. Images are
    drawn as stored, row 0 on top, every pixel as a square of whole screen pixels.
    """
    white = float(np.percentile(figure.target, _WHITE_PERCENTILE)) or float(figure.target.max()) or 1.0
    grid = _Grid(figure.target.shape, len(figure.panels) + 1)
    grid.canvas.text(0.5, 1 - 4 / grid.height, figure.title, fontsize=9, ha="center", va="top", parse_math=False)
    _show(grid.cell(0, 0), figure.target, white, "target", "")
    _write_notes(grid.cell(1, 0), figure.notes)
    for column, panel in enumerate(figure.panels, 1):
        error = ERROR_GAIN * np.abs(panel.image - figure.target)
        _show(grid.cell(0, column), panel.image, white, panel.name, panel.caption)
        _show(grid.cell(1, column), error, white, "", f"|error| x {ERROR_GAIN}, same scale")
    drawn = FigureCanvasAgg(grid.canvas)
    with _any_script():
        drawn.draw()
    with replacing(path) as temporary:
        Image.fromarray(np.asarray(drawn.buffer_rgba())).convert("L").save(temporary, "PNG", optimize=True)


class _Grid:
    """Two rows of panels, placed by the pixel so that images are not resampled."""

    def __init__(self, shape: tuple[int, ...], columns: int) -> None:
        zoom = math.ceil(_MIN_PANEL / shape[1])
        self.panel_h, self.panel_w = zoom * shape[0], zoom * shape[1]
        self.width = columns * (self.panel_w + _GAP) + _GAP
        self.height = 2 * (self.panel_h + _CAPTION) + 2 * _TITLE
        self.canvas = Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI)

    def cell(self, row: int, column: int) -> Axes:
        left = _GAP + column * (self.panel_w + _GAP)
        bottom = _CAPTION + (1 - row) * (self.panel_h + _CAPTION)
        box = (left / self.width, bottom / self.height, self.panel_w / self.width, self.panel_h / self.height)
        return self.canvas.add_axes(box)


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


def _show(axis: Axes, image: np.ndarray, white: float, name: str, caption: str) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=white, interpolation="nearest", aspect="auto")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title(_clipped(name), fontsize=9, pad=3, parse_math=False)
    axis.set_xlabel(caption, fontsize=7.5, labelpad=4, parse_math=False)


def _write_notes(axis: Axes, notes: Sequence[str]) -> None:
    axis.axis("off")
    scale = f"grey scale: 0 to the {_WHITE_PERCENTILE:g}th\npercentile of the target slice"
    axis.text(
        0.02,
        0.5,
        "\n".join([*notes, scale]),
        fontsize=7.5,
        va="center",
        transform=axis.transAxes,
        linespacing=1.5,
        parse_math=False,
    )


def _clipped(name: str) -> str:
    """What fits over the narrowest panel."""
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
