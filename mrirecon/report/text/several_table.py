"""The one table of several evaluations: a row for each thing, its scores and its seconds per slice."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.report.numbers import number
from mrirecon.report.text.evaluation_table import align
from mrirecon.tables.metrics import METRICS, digits_of, label_of, unit_of

_NONE = "-"


def several_table(named: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return the table as text, with a line that says what it shows.

    Args:
        named: Name and summary.json of each.
    """
    metrics = _shared_metrics(named)
    rows = [["", *(f"{label_of(name)}{unit_of(name)}" for name in metrics), "s per slice", "90 %"]]
    for name, summary in named:
        times = summary.get("seconds_per_slice") or {}
        cells = [_mean_and_sd(summary["overall"][metric], metric) for metric in metrics]
        rows.append([name, *cells, number(times.get("median"), ".3g"), number(times.get("p90"), ".3g")])
    means = "slices" if named[0][1]["protocol"]["per_slice"] else "volumes"
    note = (
        f"mean over {means} ± SD over volumes; s per slice: median, and 90th percentile, of the reconstruction with\n"
        "its maps, without reading and scoring, one slice at a time after the first"
    )
    return f"{align(rows, left=1)}\n{note}"


def several_rows(named: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the same table with all digits, a row for each: name, mean and SD of each metric, seconds."""
    rows = []
    for name, summary in named:
        times = summary.get("seconds_per_slice") or {}
        row: dict[str, Any] = {"name": name}
        for metric in _shared_metrics(named):
            values = summary["overall"][metric]
            row |= {metric: values["mean"], f"{metric}_sd": values["sd"]}
        rows.append({**row, "seconds_per_slice": times.get("median"), "seconds_per_slice_p90": times.get("p90")})
    return rows


def _shared_metrics(named: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    return [metric for metric in METRICS if all(metric in summary["overall"] for _, summary in named)]


def _mean_and_sd(values: Mapping[str, float | None], metric: str) -> str:
    if values["mean"] is None:
        return _NONE
    sd = "" if values["sd"] is None else f" ± {values['sd']:{digits_of(metric)}}"
    return f"{values['mean']:{digits_of(metric)}}{sd}"
