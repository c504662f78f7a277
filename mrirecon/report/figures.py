"""Pictures: reconstructions beside their reference, and training curves. Arrays in, PNG files out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrirecon.files import replacing

ERROR_GAIN = 10
_WHITE_PERCENTILE = 99.9  # a few bright vessels shall not darken the rest
_PANEL_INCH, _DPI = 2.6, 120
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
    """Target and reconstructions above, their errors times 10 below, all on one grey scale, as a PNG.

    The scale runs from 0 to the 99.9th percentile of the target slice, which the figure says. Images are
    drawn as stored, row 0 on top, with square pixels.
    """
    white = float(np.percentile(figure.target, _WHITE_PERCENTILE)) or float(figure.target.max()) or 1.0
    height, width = figure.target.shape
    columns = len(figure.panels) + 1
    panel_h = _PANEL_INCH * height / width
    canvas = Figure(
        figsize=(_PANEL_INCH * columns, 2 * (panel_h + 0.5) + 0.35), dpi=_DPI, layout="constrained"
    )
    axes = canvas.subplots(2, columns, squeeze=False)
    canvas.suptitle(figure.title, fontsize=9)
    _show(axes[0, 0], figure.target, white, "target", "")
    _write_notes(axes[1, 0], figure.notes)
    for column, panel in enumerate(figure.panels, 1):
        error = ERROR_GAIN * np.abs(panel.image - figure.target)
        _show(axes[0, column], panel.image, white, panel.name, panel.caption)
        _show(axes[1, column], error, white, "", f"|error| x {ERROR_GAIN}, same scale")
    _save(canvas, path)


def draw_curves(path: Path, training: Series, validation: Series, title: str = "") -> None:
    """Training loss (logarithmic) and validation SSIM over optimizer steps, both (steps, values), as PNG."""
    (steps, losses), (val_steps, val_ssims) = training, validation
    canvas = Figure(figsize=(6.4, 3.6), dpi=_DPI, layout="constrained")
    left = canvas.subplots()
    left.set_title(title, fontsize=10)
    left.set_xlabel("optimizer step")
    left.set_ylabel("training loss", color="tab:blue")
    left.plot(steps, losses, color="tab:blue", linewidth=1)
    if len(losses) and min(losses) > 0:
        left.set_yscale("log")
    if len(val_ssims):
        right = left.twinx()
        right.set_ylabel("validation SSIM", color="tab:orange")
        right.plot(val_steps, val_ssims, color="tab:orange", marker="o", markersize=3, linewidth=1)
    _save(canvas, path)


def _show(axis: Axes, image: np.ndarray, white: float, name: str, caption: str) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=white, interpolation="nearest", aspect="equal")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title(name, fontsize=9, pad=3)
    axis.set_xlabel(caption, fontsize=7.5, labelpad=3)


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
    )


def _save(canvas: Figure, path: Path) -> None:
    FigureCanvasAgg(canvas)
    with replacing(path) as temporary:
        canvas.savefig(temporary, format="png", metadata={"Software": None})
