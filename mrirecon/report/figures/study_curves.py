"""Curves of a study over optimizer steps, with the share of seeds that reached a target; and over the rates tried."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mrirecon.report.figures.drawing import INK, CellStyle, draw_panels, spread_axis
from mrirecon.tables.metrics import METRICS, shortfall_label


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


# ---- what the tuning found: loss over learning rate, and the expected best of k trials


_DIVERGED_AT = 0.97  # height in the axes, since the loss has no number
_MARKS = (
    ("trial", {"color": INK, "marker": "o", "markerfacecolor": "none", "linestyle": "", "markersize": 4}),
    ("winner", {"color": INK, "marker": "*", "linestyle": "", "markersize": 9}),
    ("sweep", {"color": INK, "marker": ".", "linewidth": 1.2}),
    ("diverged", {"color": INK, "marker": "x", "linestyle": "", "markersize": 5}),
    ("diverges from here", {"color": INK, "linewidth": 1, "linestyle": (0, (1, 1.5))}),
)


def lr_of(values: Mapping[str, float]) -> float | None:
    """Return the learning rate among tuned values; None where it was not tuned."""
    return next((value for key, value in values.items() if key.rpartition(".")[2] == "lr"), None)


def draw_lr_sensitivity(study: Mapping[str, Any]) -> Figure:
    """Draw final validation loss over learning rate: all trials, the winner, the sweep around it, where it diverges.

    Such curves show how sensitive a training is to its rate (Wortsman et al., arXiv:2309.14322).

    Raises:
        NothingToDrawError: No cell has a trial.
    """
    cells = [cell for cell in study["cells"] if any(_points(cell))]
    drawn = [point for cell in cells for point in _points(cell)]

    def finish(axes: Axes) -> None:
        spread_axis(axes.xaxis, [lr for lr, _ in drawn])
        spread_axis(axes.yaxis, [loss for _, loss in drawn])

    return draw_panels(
        study,
        cells,
        _draw_cell,
        xlabel="learning rate",
        ylabel="final validation loss",
        why_not="No learning rates to show: no tuning run is finished.",
        finish=finish,
        marks=_MARKS,
    )


def draw_best_of_k(study: Mapping[str, Any]) -> Figure:
    """Draw the expected loss of the best of k trials over k (after Dodge et al. 2019).

    Raises:
        NothingToDrawError: No cell has it.
    """
    cells = [cell for cell in study["cells"] if _best_of_k(cell)]
    objective = study.get("objective", "")

    def draw(axes: Axes, cell: Mapping[str, Any], style: CellStyle) -> None:
        ks, losses = zip(*_best_of_k(cell), strict=True)
        axes.plot(ks, losses, color=style.colour, linestyle=style.line, marker=".", markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return draw_panels(
        study,
        cells,
        draw,
        xlabel="tuning trials k",
        ylabel=f"expected best {shortfall_label(objective) if objective in METRICS else 'loss'}",
        why_not="No expected best of k: no cell has finished tuning.",
        finish=lambda axes: spread_axis(axes.yaxis, [loss for cell in cells for _, loss in _best_of_k(cell)]),
    )


def _best_of_k(cell: Mapping[str, Any]) -> list[Sequence[float]]:
    points = (cell.get("tuning") or {}).get("best_of_k") or []
    return [point for point in points if point[1] is not None]


def _points(cell: Mapping[str, Any]) -> Iterator[tuple[float, float | None]]:
    """Yield learning rate and loss (None: diverged) of trials and sweep."""
    for trial in (cell.get("tuning") or {}).get("trials") or ():
        lr = lr_of(trial["values"])
        if lr is not None:
            yield lr, trial["loss"]
    for point in (cell.get("sweep") or {}).get("points") or ():
        yield point["lr"], point["loss"]


def _draw_cell(axes: Axes, cell: Mapping[str, Any], style: CellStyle) -> None:
    _draw_sweep(axes, cell.get("sweep") or {}, style)
    trials = (cell.get("tuning") or {}).get("trials") or ()
    tried = [(lr, trial["loss"]) for trial in trials if (lr := lr_of(trial["values"])) is not None]
    finished = [(lr, loss) for lr, loss in tried if loss is not None]
    look: dict[str, Any] = {"color": style.colour, "linestyle": ""}
    axes.plot(*_columns(finished), marker="o", markerfacecolor="none", markersize=4, markeredgewidth=0.9, **look)
    _draw_diverged(axes, [lr for lr, loss in tried if loss is None], style)
    won = [(lr_of(t["values"]), t["loss"]) for t in trials if t["values"] in (cell.get("winners") or ())]
    star: dict[str, Any] = {
        "marker": "*",
        "markersize": 10,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "zorder": 5,
    }
    axes.plot(*_columns([(lr, loss) for lr, loss in won if lr is not None and loss is not None]), **star, **look)


def _draw_sweep(axes: Axes, sweep: Mapping[str, Any], style: CellStyle) -> None:
    points = sweep.get("points") or ()
    finished = sorted((point["lr"], point["loss"]) for point in points if point["loss"] is not None)
    axes.plot(*_columns(finished), color=style.colour, linestyle=style.line, marker=".", markersize=5, linewidth=1.2)
    _draw_diverged(axes, [point["lr"] for point in points if point["loss"] is None], style)
    if sweep.get("lr_diverged") is not None:
        axes.axvline(sweep["lr_diverged"], color=style.colour, linewidth=1, linestyle=(0, (1, 1.5)))


def _draw_diverged(axes: Axes, lrs: Sequence[float], style: CellStyle) -> None:
    heights = [_DIVERGED_AT] * len(lrs)
    look = {"color": style.colour, "marker": "x", "linestyle": "", "markersize": 5}
    axes.plot(lrs, heights, transform=axes.get_xaxis_transform(), **look)  # type: ignore[arg-type]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
