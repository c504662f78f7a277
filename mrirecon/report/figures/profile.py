"""Time to target: which share of the seeds has reached it after how many steps."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mrirecon.report.figures.cell_styles import CellStyle
from mrirecon.report.figures.panel_grid import draw_panels


def draw_profile(study: Mapping[str, Any], share: float) -> Figure:
    """Share of the seeds that have reached one target, over steps; a seed that never does counts as not reached.

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

    return draw_panels(
        study,
        cells,
        draw,
        xlabel="optimizer step",
        ylabel="seeds that reached it",
        why_not="No time to target: no rerun is finished, or the reference has none.",
        finish=_finish,
    )


def time_to(cell: Mapping[str, Any], share: float) -> dict[str, Any]:
    """What the cell says about one target; empty: nothing."""
    found = (time for time in cell.get("times") or () if time["share"] == share and time.get("per_seed"))
    return next(found, {})


def _finish(axes: Axes) -> None:
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
