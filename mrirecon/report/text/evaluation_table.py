"""The terminal tables of an evaluation: of its volumes, of regions, and of several things beside each other."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from mrirecon.evaluation.protocol import PROTOCOLS
from mrirecon.evaluation.regions import METRICS_INSIDE
from mrirecon.evaluation.results import UNDECLARED, ZERO_FILLED, VolumeResult, acceleration_label, by_volume
from mrirecon.evaluation.stats import goodness
from mrirecon.evaluation.summary import LEVEL
from mrirecon.report.words import how_many, number
from mrirecon.tables.metrics import METRICS, digits_of, label_of, unit_of

MAX_ROWS = 20  # more volumes than this: the worst and the best
_WORST, _BEST = 6, 4


def evaluation_table(results: Sequence[VolumeResult], summary: dict[str, Any]) -> str:
    """Return scores per volume (the worst and best of many) and means over groups, as text.

    Args:
        results: Rows of one reconstructor at one nominal acceleration, or with the masks of the files. Rows
            without zero-filled scores (NaN, foreign images) are shown without a comparison to them.
        summary: Of the same rows, from `summarize`.
    """
    has_zero_filled = not all(math.isnan(value) for r in results for value in r.zero_filled.values())
    compared = results[0].reconstructor != "zero-filled" and has_zero_filled
    metrics = [name for name in METRICS if name in results[0].scores]
    # a line for each metric of each group; all metrics side by side would not fit on a screen
    named = {"all": summary["overall"]}
    for group in ("by_acquisition", "by_acceleration", "by_origin"):
        if 1 < len(summary[group]) < summary["overall"]["n_volumes"]:  # not each volume once more
            spell = _times if group == "by_acceleration" else str
            named |= {spell(name): values for name, values in summary[group].items()}
    headed = {
        f"{name}: {how_many(v['n_volumes'], 'volume')}, {how_many(v['n_patients'], 'patient')}": v
        for name, v in named.items()
    }
    percent = f"{100 * summary['level']:g} %"
    note = f"SD over volumes; in brackets the {percent} interval of the mean over patients (needs at least 5)"
    groups = "\n".join([*lines_by_group(headed, metrics, compared, results[0].reconstructor), note])
    parts = [_caption(results, summary), _volumes(results, metrics, compared), groups]
    return "\n\n".join(parts) + seconds_line(summary, "\n")


def seconds_line(summary: dict[str, Any], before: str = "") -> str:
    """Word how long slices took; empty where that was not measured (foreign images, several slices at a time).

    Args:
        summary: Of an evaluation, with its `seconds_per_slice`.
        before: Stands before it.
    """
    times = summary.get("seconds_per_slice")
    if not times:
        return ""
    return (
        f"{before}seconds per slice: median {times['median']:.3g}, 90th percentile {times['p90']:.3g} "
        f"({how_many(times['n_slices'], 'slice')} after the first; reconstruction with its maps, without reading and "
        "scoring)"
    )


def _caption(results: Sequence[VolumeResult], summary: dict[str, Any]) -> str:
    first, overall = results[0], summary["overall"]
    nominal = ", ".join(map(_times, summary["by_acceleration"]))
    origins = ", ".join(f"{name} {group['n_volumes']}" for name, group in summary["by_origin"].items())
    checkpoint = f" ({first.checkpoint} checkpoint)" if first.checkpoint else ""
    true = _times(_number(overall["acceleration_true"], ".2f"))
    draws = (
        f", {overall['n_draws']} mask {'draw' if overall['n_draws'] == 1 else 'draws'} each" if first.mask_id else ""
    )
    per_slice = first.protocol in PROTOCOLS and PROTOCOLS[first.protocol].per_slice
    return (
        f"{first.reconstructor}{checkpoint}, {first.mask} mask, {nominal} (true {true}), "
        f"protocol {first.protocol}, {'means over slices' if per_slice else 'per volume'}\n"
        f"{how_many(overall['n_volumes'], 'volume')} of {how_many(overall['n_patients'], 'patient')} ({origins}){draws}"
    )


def _volumes(results: Sequence[VolumeResult], metrics: Sequence[str], compared: bool) -> str:
    groups = list(by_volume(results).values())
    header = ["volume", "acquisition", "slices", "R", "true R", *map(label_of, metrics)]
    header += [f"zf {label_of(name)}" for name in metrics if compared]
    rows = [_volume_row(rows, metrics, compared) for rows in groups]
    note = ""
    if len(rows) > MAX_ROWS:
        first = metrics[0]
        order = sorted(range(len(rows)), key=lambda i: goodness(first, fmean(r.scores[first] for r in groups[i])))
        rows = [rows[i] for i in [*order[:_WORST], *order[-_BEST:]]]
        note = f"\n(the {_WORST} worst and {_BEST} best of {len(order)} by {label_of(first)}; all are in volumes.csv)"
    draws = max(len(rows) for rows in groups)
    note += f"\n(mean ± SD over {draws} mask draws)" if draws > 1 else ""
    note += "\n(zf: the zero-filled image of the same masks)" if compared else ""
    return align([header, *rows], left=2) + note


def _volume_row(rows: Sequence[VolumeResult], metrics: Sequence[str], compared: bool) -> list[str]:
    first = rows[0]
    true = fmean(r.acceleration_true for r in rows)
    cells = [first.volume, first.acquisition, str(first.n_slices), acceleration_label(first.acceleration)]
    cells.append("-" if math.isnan(true) else f"{true:.2f}")
    cells += [_over_draws([r.scores[name] for r in rows], name) for name in metrics]
    return cells + [_over_draws([r.zero_filled[name] for r in rows], name) for name in metrics if compared]


def _over_draws(values: list[float], name: str) -> str:
    digits = digits_of(name)
    text = _number(fmean(values), digits)
    return f"{text} ± {stdev(values):{digits}}" if len(values) > 1 and all(map(math.isfinite, values)) else text


def lines_by_group(
    groups: Mapping[str, Mapping[str, Any]], metrics: Sequence[str], compared: bool, reconstructor: str
) -> list[str]:
    """Return a header and, for each group, its heading and a line for each metric.

    Args:
        groups: By heading; each holds the statistics of the scores as `summarize` makes them.
        metrics: Which.
        compared: Beside those of the zero-filled image.
        reconstructor: Its name.
    """
    rows = [["mean ± SD", reconstructor, *(["zero-filled", "paired difference"] if compared else [])]]
    for values in groups.values():
        for metric in metrics:
            row = [f"  {label_of(metric)}", _statistics(values[metric], metric)]
            if compared:
                row.append(_statistics(values[ZERO_FILLED + metric], metric))
                row.append(_statistics(values[f"difference_{metric}"], metric, "+"))
            rows.append(row)
    header, *scores = align(rows, left=1).split("\n")
    lines = [header]
    for i, heading in enumerate(groups):
        lines += [heading, *scores[i * len(metrics) : (i + 1) * len(metrics)]]
    return lines


def _statistics(values: dict[str, float | None], metric: str, sign: str = "") -> str:
    digits = digits_of(metric)
    text = _number(values["mean"], sign + digits)
    if values["sd"] is not None:
        text += f" ± {_number(values['sd'], digits)}"
    if values["low"] is not None:
        text += f" [{_number(values['low'], sign + digits)}, {_number(values['high'], sign + digits)}]"
    return text


def _times(number: str) -> str:
    """Return `4x` for a number; what is no number stays as it is."""
    return {UNDECLARED: "undeclared acceleration", "-": "-"}.get(number, f"{number}x")


def _number(value: float | None, digits: str) -> str:
    return "-" if value is None else f"{value:{digits}}"


def align(rows: list[list[str]], left: int) -> str:
    """Return rows as lines of columns of equal width; the first `left` to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


# ---- the terminal table of scores inside boxes


def region_table(labels: Mapping[str, Mapping[str, Any]], reconstructor: str) -> str:
    """Return means over the boxes of each label, as text.

    Args:
        labels: From `means_by_label`.
        reconstructor: Its name.
    """
    if not labels:
        return "regions: no box lies in a scored slice"
    groups, notes = {}, []
    for label, values in labels.items():
        n_boxes, n_without = values["n_boxes"], values["n_boxes"] - values["n_ssim"]
        counted = f"{n_boxes:,} box{'es' * (n_boxes != 1)}, {how_many(values['n_patients'], 'patient')}"
        groups[f"{label or '(no label)'}: {counted}"] = values
        if n_without:
            notes.append(f"no SSIM of {n_without} of these boxes ({label}): they lie within 3 pixels of the edge")
    lines = lines_by_group(groups, METRICS_INSIDE, reconstructor != "zero-filled", reconstructor)
    percent = f"{100 * LEVEL:g} %"
    interval = f"SD over boxes; in brackets the {percent} interval of the mean over patients (needs at least 5)"
    return "\n".join(["inside the regions", *lines, *notes, interval])


# ---- the one table of several evaluations: a row for each thing, its scores and its seconds per slice


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
