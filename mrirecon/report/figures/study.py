"""The figures of a study: what they are called, what they show, and as files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from mrirecon.evaluation.stats import BETTER, EQUIVALENT, NO_VERDICT, UNDECIDED, WORSE
from mrirecon.report.figures import study_curves as curves
from mrirecon.report.figures.drawing import (
    FAINT,
    INK,
    WIDTH,
    NothingToDrawError,
    cell_styles,
    label,
    laid_out,
    save,
    styled,
    varied,
)
from mrirecon.report.figures.study_curves import draw_best_of_k, draw_lr_sensitivity, draw_profile
from mrirecon.report.words import capital, percent
from mrirecon.tables.metrics import label_of

Study = Mapping[str, Any]
FORMATS = ("png", "svg")
_BAND = "Line: median over seeds; band: 10th to 90th percentile. Panels share their axes."
_CURVES = (
    (
        "curve-ssim",
        curves.SSIM,
        f"{_BAND} Dotted: the zero-filled image; what is far below it, and below the ends of all lines, is cut off.",
    ),
    ("curve-loss", curves.VAL_LOSS, _BAND),
    ("trace-train-loss", curves.TRAIN_LOSS, _BAND),
    ("trace-grad-norm", curves.GRAD_NORM, f"Euclidean norm over all weights, before clipping. {_BAND}"),
    ("trace-update-ratio", curves.UPDATE_RATIO, f"Norm of one step's change over that of the weights. {_BAND}"),
)


@dataclass(frozen=True)
class StudyFigure:
    """One figure: its file name without ending, what it shows in a few words, how to read it."""

    name: str
    title: str
    caption: str
    make: Callable[[], Figure]

    def draw(self) -> Figure:
        """Make the figure in the common style.

        Raises:
            NothingToDrawError: Its data are not there.
        """
        with styled():
            return laid_out(self.make())


def study_figures(study: Study) -> Iterator[StudyFigure]:
    """Yield all figures that a study may have, drawn when asked for."""
    several = (study.get("data") or {}).get("acceleration") or ()
    averaged = f" Means of {' and '.join(f'{r:g}x' for r in several)}." if len(several) > 1 else ""
    yield StudyFigure(
        "heat-map",
        "Test SSIM",
        f"Mean over seeds and volumes with its 95 % interval; bold: highest; dashed frame: the reference.{averaged}",
        partial(draw_heat_map, study),
    )
    for name, curve, caption in _CURVES:
        yield StudyFigure(name, capital(curve.label), caption, partial(curves.draw_study_curves, study, curve))
    yield StudyFigure(
        "lr-sensitivity",
        "Loss over learning rate",
        "The sweep runs through the winner at its other values; crosses at the top have diverged.",
        partial(draw_lr_sensitivity, study),
    )
    yield StudyFigure(
        "best-of-k",
        "Expected best of k trials",
        "What k trials would have found on average. A diverged trial counts as the worst finite loss of the study.",
        partial(draw_best_of_k, study),
    )
    for target in study.get("targets") or ():
        ssim = "" if target.get("ssim") is None else f", SSIM {target['ssim']:.4f}"
        yield StudyFigure(
            f"time-to-target-{100 * target['share']:g}",
            f"{percent(target['share'])} of the gap from zero-filled to the reference{ssim}",
            "Share of the seeds whose validation SSIM (running median of three) has reached the target.",
            partial(draw_profile, study, target["share"]),
        )
    yield StudyFigure(
        "volumes",
        "Volumes, paired",
        "A dot is a test volume, a line joins the same one, a bar is the mean. "
        f"Right: differences from the reference; grey band: counts as equivalent.{averaged}",
        partial(draw_volumes, study),
    )
    for number, family in enumerate(study.get("families") or (), 1):
        caption = (
            "Dot: first minus second, with the interval that holds for all of the family at once and decides alone."
        )
        yield StudyFigure(f"effects-{number}", capital(family["name"]), caption, partial(draw_effects, family))


def write_study_figures(study: Study, folder: Path) -> list[Path]:
    """Write all figures of a study that have data, as PNG and SVG.

    Args:
        study: Schema 1, as in results.json.
        folder: Is made where it is missing; files of the same names are replaced.

    Returns:
        The files.
    """
    written = []
    for item in study_figures(study):
        try:
            figure = item.draw()
        except NothingToDrawError:
            continue
        for ending in FORMATS:
            path = folder / f"{item.name}.{ending}"
            save(figure, path)
            written.append(path)
    return written


# ---- final scores as pictures: the heat map of two factors, and the volumes pair by pair


_COLOURS = "cividis"
_SQUARE = (1.75, 0.72)  # inches
Cells = Sequence[Mapping[str, Any]]


def draw_heat_map(study: Mapping[str, Any]) -> Figure:
    """Draw test SSIM with its interval over the levels of the first two varied factors; further factors have panels.

    Its colours, cividis, look alike to readers with and without colour blindness (Nuñez et al. 2018).

    Raises:
        NothingToDrawError: No cell was rerun.
    """
    values = {cell["cell"]: cell["final"]["ssim"]["mean"] for cell in study["cells"] if _scored(cell)}
    if not values:
        raise NothingToDrawError("No test scores: no rerun is finished.")
    names = varied(study)
    rows, columns = (names[0], names[1]) if len(names) > 1 else (None, names[0])
    row_levels = study["factors"][rows] if rows else [""]
    blocks = list(product(*(study["factors"][name] for name in names[2:])))
    n = len(study["factors"][columns])
    per_line = max(1, int(WIDTH / (_SQUARE[0] * n + 1)))
    lines = -(-len(blocks) // per_line)
    size = (min(WIDTH, (_SQUARE[0] * n + 1) * min(per_line, len(blocks))), lines * (_SQUARE[1] * len(row_levels) + 0.7))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, min(per_line, len(blocks)), squeeze=False)
    for axes in list(grid.flat)[len(blocks) :]:
        axes.set_visible(False)
    for axes, block in zip(grid.flat, blocks, strict=False):
        fixed = dict(zip(names[2:], block, strict=True))
        cells = [c for c in study["cells"] if all(c["levels"][f] == level for f, level in fixed.items())]
        axes.set_title(label(", ".join(f"{f} {level}" for f, level in fixed.items())), loc="left")
        _draw_squares(axes, study, cells, (rows, columns), (min(values.values()), max(values.values())))
    return figure


def _draw_squares(
    axes: Axes, study: Mapping[str, Any], cells: Cells, factors: tuple[str | None, str], scale: tuple[float, float]
) -> None:
    rows, columns = factors
    row_levels = list(study["factors"][rows]) if rows else [""]
    column_levels = list(study["factors"][columns])
    for cell in cells:
        y = row_levels.index(cell["levels"][rows]) if rows else 0
        _draw_square(axes, cell, (column_levels.index(cell["levels"][columns]), y), scale)
        if cell["cell"] == study["reference"]:
            place = (column_levels.index(cell["levels"][columns]) - 0.46, y - 0.44)
            ink = _ink(_place_on(scale, cell["final"]["ssim"]["mean"])) if _scored(cell) else FAINT
            axes.add_patch(Rectangle(place, 0.92, 0.88, fill=False, edgecolor=ink, linewidth=1, linestyle="--"))
    axes.set(xlim=(-0.5, len(column_levels) - 0.5), ylim=(len(row_levels) - 0.5, -0.5))
    axes.set_xticks(range(len(column_levels)), [label(level) for level in column_levels])
    axes.set_yticks(range(len(row_levels)), [label(level) for level in row_levels])
    axes.set_xlabel(label(columns), color=FAINT, labelpad=7)
    axes.set_ylabel(label(rows or ""), color=FAINT, labelpad=7)
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _draw_square(axes: Axes, cell: Mapping[str, Any], place: tuple[int, int], scale: tuple[float, float]) -> None:
    x, y = place
    corner = (x - 0.5, y - 0.5)
    if not _scored(cell):
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="#f4f4f4", edgecolor="#cccccc", hatch="///", linewidth=0))
        axes.text(x, y, "failed" if cell.get("error") else "not run", ha="center", va="center", color=FAINT)
        return
    score = cell["final"]["ssim"]
    on_scale = _place_on(scale, score["mean"])
    colour, ink = matplotlib.colormaps[_COLOURS](on_scale), _ink(on_scale)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=2))
    weight = "bold" if score["mean"] == scale[1] else "normal"
    edge = "  edge" if cell.get("edge") else ""
    axes.text(x, y - 0.12, f"{score['mean']:.4f}", ha="center", va="center", color=ink, fontsize=11, weight=weight)
    known = score.get("low") is not None and score.get("high") is not None
    interval = f"[{score['low']:.4f}, {score['high']:.4f}]" if known else "no interval"
    axes.text(x, y + 0.22, f"{interval}{edge}", ha="center", va="center", color=ink, fontsize=7.5)


def _place_on(scale: tuple[float, float], value: float) -> float:
    return (value - scale[0]) / ((scale[1] - scale[0]) or 1.0)


def _ink(on_scale: float) -> str:
    return "white" if on_scale < 0.5 else INK


def _scored(cell: Mapping[str, Any]) -> bool:
    return ((cell.get("final") or {}).get("ssim") or {}).get("mean") is not None


def draw_volumes(study: Mapping[str, Any]) -> Figure:
    """Draw each test volume in each cell: SSIM, with a line through the cells, and difference from the reference.

    Raises:
        NothingToDrawError: No cell or only one has scores of volumes.
    """
    cells = [cell for cell in study["cells"] if (cell.get("volumes") or {}).get("ssim")]
    if len(cells) < 2:
        raise NothingToDrawError("No pairs of volumes: fewer than two cells have test scores.")
    names = list(dict.fromkeys(name for cell in cells for name in cell["volumes"]["names"]))
    scores = [dict(zip(cell["volumes"]["names"], cell["volumes"]["ssim"], strict=True)) for cell in cells]
    table = np.array([[found.get(name) for name in names] for found in scores], dtype=float)  # None: NaN
    figure = Figure(figsize=(WIDTH, 1.0 + 0.27 * len(cells)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    y = np.arange(len(cells))
    left.plot(table, y, color="#c4c4c4", linewidth=0.7, zorder=1)
    left.set_xlabel("SSIM of each test volume, mean over seeds")
    left.set_yticks(y, [label(cell["cell"]) for cell in cells])
    left.set_ylim(len(cells) - 0.5, -0.5)
    _draw_dots(left, study, cells, table)
    _draw_differences(right, study, cells, table)
    return figure


def _draw_differences(axes: Axes, study: Mapping[str, Any], cells: Cells, table: np.ndarray) -> None:
    base = next((i for i, cell in enumerate(cells) if cell["cell"] == study["reference"]), None)
    if base is None:
        axes.text(0.5, 0.5, "no differences: the reference has no scores", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    margin = (study.get("margin") or {}).get("ssim")
    if margin is not None:
        axes.axvspan(-margin, margin, color="#ededed", linewidth=0)
    axes.axvline(0, color=FAINT, linewidth=0.9)
    axes.set_xlabel(f"difference from {label(study['reference'])}, same volume")
    axes.tick_params(labelleft=False)
    _draw_dots(axes, study, cells, table - table[base])


def _draw_dots(axes: Axes, study: Mapping[str, Any], cells: Cells, table: np.ndarray) -> None:
    """Draw the volumes of a table `(cells, volumes)` as dots, their mean as a bar."""
    styles = cell_styles(study)
    for y, (cell, values) in enumerate(zip(cells, table, strict=True)):
        colour = styles[cell["cell"]].colour
        axes.scatter(values, np.full(values.shape, y), s=14, color=colour, alpha=0.55, linewidths=0, zorder=2)
        axes.plot([np.nanmean(values)] * 2, [y - 0.32, y + 0.32], color=colour, linewidth=2.2, zorder=3)
    axes.grid(axis="y", visible=False)


# ---- the comparisons of a family as a picture: effects with their intervals beside the margin of equivalence


def comparison_names(family: Mapping[str, Any]) -> list[str]:
    """Return the names of a family's comparisons, of the first cells alone where all have the same second cell."""
    comparisons: Sequence[Mapping[str, Any]] = family["comparisons"]
    if len(comparisons) > 1 and len({item.get("second") or item["name"] for item in comparisons}) == 1:
        at = [f" at {item['at']}" if item.get("at") else "" for item in comparisons]
        return [f"{item.get('first') or item['name']}{where}" for item, where in zip(comparisons, at, strict=True)]
    return [str(item["name"]) for item in comparisons]


def verdict_of(item: Mapping[str, Any]) -> str:
    """Return a comparison's BETTER, WORSE, EQUIVALENT or UNDECIDED, or NO VERDICT."""
    return str(item.get("verdict") or NO_VERDICT)


VERDICTS = {
    BETTER: "#0072B2",
    WORSE: "#D55E00",
    EQUIVALENT: "#009E73",
    UNDECIDED: "#6e6e6e",
    NO_VERDICT: "#6e6e6e",
}


def draw_effects(family: Mapping[str, Any]) -> Figure:
    """Draw the effect of each comparison with its simultaneous interval.

    It is a forest plot (Lewis and Clarke 2001).

    Raises:
        NothingToDrawError: The family has no comparison.
    """
    named = zip(comparison_names(family), family["comparisons"], strict=True)
    shown = [(name, item) for name, item in named if item.get("effect") is not None]
    if not shown:
        raise NothingToDrawError("Nothing to compare yet: too few reruns.")
    figure = Figure(figsize=(WIDTH, 1.15 + 0.3 * len(shown)), layout="constrained")
    axes = figure.subplots()
    first = shown[0][1]
    if first.get("margin") is not None:
        axes.axvspan(-first["margin"], first["margin"], color="#ededed", linewidth=0)
    axes.axvline(0, color=FAINT, linewidth=0.9)
    for y, (_, item) in enumerate(shown):
        colour = VERDICTS.get(verdict_of(item), INK)
        if item.get("low") is not None and item.get("high") is not None:
            axes.plot([item["low"], item["high"]], [y, y], color=colour, linewidth=3.2, solid_capstyle="butt")
        axes.plot(item["effect"], y, "o", color=colour, markersize=5.5, markeredgecolor="white", zorder=4)
        axes.text(1.01, y, verdict_of(item).lower(), transform=axes.get_yaxis_transform(), va="center", color=colour)
    axes.set_yticks(range(len(shown)), [label(name) for name, _ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    metric = str(first["metric"])
    axes.set_xlabel(f"difference in {label(label_of(metric))} ({first.get('better', 'higher')} is better)")
    _legend(figure, first.get("margin") is not None)
    return figure


def _legend(figure: Figure, has_margin: bool) -> None:
    handles: list[Any] = [Line2D([], [], color=INK, linewidth=3.2)]
    handles += [Patch(color="#ededed", linewidth=0)] if has_margin else []
    names = ["interval, for all at once", *(["counts as none"] if has_margin else [])]
    figure.legend(handles, names, loc="outside upper left", ncols=2)
