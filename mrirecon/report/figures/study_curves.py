"""Curves of a study over optimizer steps: training and validation, and the share of seeds that reached a target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mrirecon.report.figures.drawing import CellStyle, draw_panels, spread_axis


@dataclass(frozen=True)
class Curve:
    """One quantity of a cell's curve."""

    key: str
    steps: str  # key of its steps
    label: str
    spread: bool = True  # may have a logarithmic axis


SSIM = Curve("ssim", "steps", "validation SSIM", spread=False)
VAL_LOSS = Curve("val_loss", "steps", "validation loss")
TRAIN_LOSS = Curve("train_loss", "trace_steps", "training loss")
GRAD_NORM = Curve("grad_norm", "trace_steps", "gradient norm")
UPDATE_RATIO = Curve("update_ratio", "trace_steps", "update / weights")


def draw_study_curves(study: Mapping[str, Any], curve: Curve) -> Figure:
    """Draw the quantity over optimizer steps: the median over seeds of each cell, and a band.

    Raises:
        NothingToDrawError: No cell has it.
    """
    cells = [cell for cell in study["cells"] if _has(cell, curve)]
    reach = [v for cell in cells for v in cell["curve"][curve.key]["median"]]

    def draw(axes: Axes, cell: Mapping[str, Any], style: CellStyle) -> None:
        band, steps = cell["curve"][curve.key], cell["curve"][curve.steps]
        _draw_band(axes, steps, band, style)

    def finish(axes: Axes) -> None:
        if curve.spread:
            spread_axis(axes.yaxis, reach)
        if curve.key == SSIM.key:
            _keep_in_view(axes, cells, study)

    return draw_panels(
        study,
        cells,
        draw,
        xlabel="optimizer step",
        ylabel=curve.label,
        why_not=f"No cell has a {curve.label} yet: no rerun is finished.",
        finish=finish,
    )


def _has(cell: Mapping[str, Any], curve: Curve) -> bool:
    values = ((cell.get("curve") or {}).get(curve.key) or {}).get("median") or []
    return any(value is not None for value in values)


def _draw_band(axes: Axes, steps: Sequence[float], band: Mapping[str, Sequence[Any]], style: CellStyle) -> None:
    middle, low, high = (np.array(band[key], dtype=float) for key in ("median", "low", "high"))
    axes.fill_between(steps, low, high, color=style.colour, alpha=0.15, linewidth=0)
    alone = len(steps) == 1
    axes.plot(steps, middle, color=style.colour, linestyle=style.line, marker="o" if alone else "", markersize=4)


def _keep_in_view(axes: Axes, cells: Sequence[Mapping[str, Any]], study: Mapping[str, Any]) -> None:
    """Draw the zero-filled image as a line; what lies far below it and below where the cells end is cut off."""
    medians = [[v for v in cell["curve"]["ssim"]["median"] if v is not None] for cell in cells]
    ends = [v for cell in cells for key in ("low", "high") for v in cell["curve"]["ssim"][key] if v is not None]
    zero_filled = (study.get("zero_filled") or {}).get("ssim")
    top, bottom = max(ends), min(ends)
    if zero_filled is not None and zero_filled < top:
        axes.axhline(zero_filled, color="#8a8a8a", linewidth=0.9, linestyle=(0, (2, 2)))
        near = zero_filled - 0.5 * (top - zero_filled)  # the start of a training lies far below
        bottom = max(bottom, min(near, *(values[-1] for values in medians if values)))
    room = 0.06 * (top - bottom) or 0.01
    axes.set_ylim(bottom - room, top + room)


def draw_profile(study: Mapping[str, Any], share: float) -> Figure:
    """Draw the share of the seeds that have reached one target over steps; a seed that never does is not reached.

    It is the empirical distribution of the time to a target, as COCO draws it (Hansen et al., arXiv:1603.08785).

    Args:
        study: Schema 1.
        share: Which target, as a share of the gap from zero-filled to the reference.

    Raises:
        NothingToDrawError: No cell was rerun.
    """
    cells = [cell for cell in study["cells"] if time_to(cell, share)]

    def draw(axes: Axes, cell: Mapping[str, Any], style: CellStyle) -> None:
        time = time_to(cell, share)
        reached = sorted(steps for steps in time["per_seed"] if steps is not None)
        shares = [i / len(time["per_seed"]) for i in range(len(reached) + 1)]
        axes.step(
            [0, *reached, time["horizon"]],
            [*shares, shares[-1]],
            where="post",
            color=style.colour,
            linestyle=style.line,
            clip_on=False,
        )

    def finish(axes: Axes) -> None:
        axes.set_ylim(0, 1)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))

    return draw_panels(
        study,
        cells,
        draw,
        xlabel="optimizer step",
        ylabel="seeds that reached it",
        why_not="No time to target: no rerun is finished, or the reference has none.",
        finish=finish,
    )


def time_to(cell: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Return the cell's times to the target of this share; empty where it has none."""
    found = (time for time in cell.get("times") or () if time["share"] == share and time.get("per_seed"))
    return next(found, {})
