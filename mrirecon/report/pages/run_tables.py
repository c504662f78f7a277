"""Tables of a run's page: what every evaluation of it found, as groups and as volumes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mrirecon.report.pages.html_table import Column, Entry, Table, measured
from mrirecon.report.pages.numbers import NONE, interval, number
from mrirecon.tables.metrics import METRICS, digits_of, heading_of, label_of, similarities

_GROUPS = (
    Column("volumes of"),
    Column("n", True, "volumes, and their patients"),
    Column("image"),
)
_MEAN = "mean over volumes, 95 % interval over patients, from 5 patients on"
_VOLUMES = (
    Column("volume"),
    Column("acquisition"),
    Column("slices", True),
    Column("R", True, "nominal acceleration"),
    Column("true R", True),
    Column("draw", True, "mask draw; 0 is fastMRI's"),
)
_GAIN = "over the zero-filled image of the same mask"
_KINDS = {"": "reconstruction", "zf_": "zero-filled", "difference_": "paired difference"}


def group_table(summary: Mapping[str, Any], name: str) -> Table:
    """Means of an evaluation, overall and by group where there is more than one."""
    groups = {"all": summary.get("overall") or {}}
    for key in ("by_acquisition", "by_acceleration", "by_origin"):
        found = summary.get(key) or {}
        groups |= {
            f"{label}x" if key == "by_acceleration" else label: g for label, g in found.items() if len(found) > 1
        }
    metrics = [metric for metric in METRICS if metric in groups["all"]]
    columns = [*_GROUPS, *(Column(heading_of(metric), True, _MEAN) for metric in metrics)]
    return Table(name, columns, [row for label, group in groups.items() for row in _group_rows(label, group, metrics)])


def _group_rows(label: str, group: Mapping[str, Any], metrics: Sequence[str]) -> Iterator[list[Entry]]:
    n = group.get("n_volumes")
    for prefix, kind in _KINDS.items():
        means = [group.get(prefix + metric) for metric in metrics]
        if all((mean or {}).get("mean") is None for mean in means):
            continue
        sign = "+" if prefix == "difference_" else ""
        count = Entry(NONE if n is None else str(n), n, _patients(group))
        scores = [measured(mean, sign + digits_of(metric)) for mean, metric in zip(means, metrics, strict=True)]
        yield [Entry(label, kind="name"), count, Entry(kind), *scores]


def volume_table(rows: Sequence[Mapping[str, str]], name: str) -> Table:
    """Every row of an evaluation's volumes.csv."""
    metrics = [metric for metric in METRICS if any(metric in row for row in rows)]
    columns = [
        *_VOLUMES,
        *(Column(heading_of(metric), True) for metric in metrics),
        *(Column(f"gain in {label_of(metric)}", True, _GAIN) for metric in similarities(metrics)),
    ]
    return Table(name, columns, [_volume(row, metrics) for row in rows])


def _volume(row: Mapping[str, str], metrics: Sequence[str]) -> list[Entry]:
    values = {key: _float(row.get(key)) for key in (*metrics, "n_slices", "acceleration", "mask_draw")}
    true = _float(row.get("acceleration_true"))
    gains = {metric: _gain(row, metric) for metric in similarities(metrics)}
    plain = [Entry(number(values[key], "g"), values[key]) for key in ("n_slices", "acceleration")]
    return [
        Entry(row.get("volume") or NONE, kind="name"),
        Entry(row.get("acquisition") or NONE),
        *plain,
        Entry(number(true, ".2f"), true),
        Entry(number(values["mask_draw"], "g"), values["mask_draw"]),
        *(Entry(number(values[key], digits_of(key)), values[key]) for key in metrics),
        *(Entry(number(gain, f"+{digits_of(metric)}"), gain) for metric, gain in gains.items()),
    ]


def _gain(row: Mapping[str, str], metric: str) -> float | None:
    own, zero_filled = _float(row.get(metric)), _float(row.get(f"zf_{metric}"))
    return None if own is None or zero_filled is None else own - zero_filled


def evaluation_words(summary: Mapping[str, Any]) -> str:
    """The result of an evaluation in one sentence."""
    overall = summary.get("overall") or {}
    metrics = [metric for metric in METRICS if (overall.get(metric) or {}).get("mean") is not None]
    if not metrics:
        return "no score is recorded."
    shown = "; ".join(_in_words(overall, metric) for metric in similarities(metrics) or metrics[:1])
    n = overall.get("n_volumes", "?")
    count = f"{n} volume{'s' * (n != 1)} of {_patients(overall)}"
    checkpoint = f", {summary['checkpoint']} checkpoint" if summary.get("checkpoint") else ""
    return f"{shown} ({count}{checkpoint})."


def _in_words(overall: Mapping[str, Any], metric: str) -> str:
    digits = digits_of(metric)
    limits = interval(overall[metric], digits)
    zero_filled = (overall.get(f"zf_{metric}") or {}).get("mean")
    beside = "" if zero_filled is None else f", zero-filled {number(zero_filled, digits)}"
    return f"{label_of(metric)} {overall[metric]['mean']:{digits}}{' ' * bool(limits)}{limits}{beside}"


def _patients(group: Mapping[str, Any]) -> str:
    n = group.get("n_patients", "?")
    return f"{n} patient{'s' * (n != 1)}"


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
