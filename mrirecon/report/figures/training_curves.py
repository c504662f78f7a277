"""Curves of a training as pictures. Arrays in, PNG files out."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrirecon.files import replacing

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
