"""The comparisons of a family as a picture: effects with their intervals beside the margin of equivalence."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mrirecon.evaluation.stats import BETTER, EQUIVALENT, NO_VERDICT, UNDECIDED, WORSE
from mrirecon.report.figures.drawing import FAINT, INK, WIDTH, NothingToDrawError, label
from mrirecon.tables.metrics import label_of


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
        _draw_comparison(axes, y, item)
    axes.set_yticks(range(len(shown)), [label(name) for name, _ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    metric = str(first["metric"])
    axes.set_xlabel(f"difference in {label(label_of(metric))} ({first.get('better', 'higher')} is better)")
    _legend(figure, first.get("margin") is not None)
    return figure


def _draw_comparison(axes: Axes, y: int, item: Mapping[str, Any]) -> None:
    colour = VERDICTS.get(verdict_of(item), INK)
    if item.get("low") is not None and item.get("high") is not None:
        axes.plot([item["low"], item["high"]], [y, y], color=colour, linewidth=3.2, solid_capstyle="butt")
    axes.plot(item["effect"], y, "o", color=colour, markersize=5.5, markeredgecolor="white", zorder=4)
    axes.text(1.01, y, verdict_of(item).lower(), transform=axes.get_yaxis_transform(), va="center", color=colour)


def _legend(figure: Figure, has_margin: bool) -> None:
    handles: list[Any] = [Line2D([], [], color=INK, linewidth=3.2)]
    handles += [Patch(color="#ededed", linewidth=0)] if has_margin else []
    names = ["interval, for all at once", *(["counts as none"] if has_margin else [])]
    figure.legend(handles, names, loc="outside upper left", ncols=2)
