"""The terminal table of an evaluation."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from mrirecon.evaluation.protocol import PROTOCOLS
from mrirecon.evaluation.results import UNDECLARED, VolumeResult, acceleration_label, by_volume

MAX_ROWS = 20  # more volumes than this: the worst and the best
_WORST, _BEST = 6, 4
_DIGITS = {"ssim": ".4f", "psnr": ".2f", "nmse": ".4f"}
_METRICS = tuple(_DIGITS)


def evaluation_table(results: Sequence[VolumeResult], summary: dict[str, Any]) -> str:
    """Scores per volume (the worst and best of many) and means over groups, as text.

    Args:
        results: Rows of one reconstructor at one nominal acceleration, or with the masks of the files. Rows
            without zero-filled scores (NaN, foreign images) are shown without a comparison to them.
        summary: Of the same rows, from `summarize`.
    """
    compared = results[0].reconstructor != "zero-filled" and _has_zero_filled(results)
    parts = [_caption(results, summary), _volumes(results, compared), _groups(summary, compared)]
    return "\n\n".join(parts)


def _has_zero_filled(results: Sequence[VolumeResult]) -> bool:
    return not all(math.isnan(getattr(r, f"zf_{metric}")) for r in results for metric in _METRICS)


def _caption(results: Sequence[VolumeResult], summary: dict[str, Any]) -> str:
    first, overall = results[0], summary["overall"]
    nominal = ", ".join(map(_times, summary["by_acceleration"]))
    origins = ", ".join(f"{name} {group['n_volumes']}" for name, group in summary["by_origin"].items())
    checkpoint = f" ({first.checkpoint} checkpoint)" if first.checkpoint else ""
    true = _times(_number(overall["acceleration_true"], ".2f"))
    draws = (
        f", {overall['n_draws']} mask {'draw' if overall['n_draws'] == 1 else 'draws'} each" if first.mask_id else ""
    )
    return (
        f"{first.reconstructor}{checkpoint}, {first.mask} mask, {nominal} (true {true}), "
        f"protocol {first.protocol}, {_means_over(first.protocol)}\n"
        f"{overall['n_volumes']} volumes of {overall['n_patients']} patients ({origins}){draws}"
    )


def _means_over(protocol: str) -> str:
    per_slice = protocol in PROTOCOLS and PROTOCOLS[protocol].per_slice
    return "means over slices" if per_slice else "per volume"


def _volumes(results: Sequence[VolumeResult], compared: bool) -> str:
    groups = list(by_volume(results).values())
    header = ["volume", "acquisition", "slices", "R", "true R", "SSIM", "PSNR", "NMSE"]
    header += ["zf SSIM", "zf PSNR", "zf NMSE"] if compared else []
    rows = [_volume_row(rows, compared) for rows in groups]
    note = ""
    if len(rows) > MAX_ROWS:
        order = sorted(range(len(rows)), key=lambda i: fmean(r.ssim for r in groups[i]))
        rows = [rows[i] for i in [*order[:_WORST], *order[-_BEST:]]]
        note = f"\n(the {_WORST} worst and {_BEST} best of {len(order)} by SSIM; all are in volumes.csv)"
    draws = max(len(rows) for rows in groups)
    note += f"\n(mean ± SD over {draws} mask draws)" if draws > 1 else ""
    note += "\n(zf: the zero-filled image of the same masks)" if compared else ""
    return align([header, *rows], left=2) + note


def _volume_row(rows: Sequence[VolumeResult], compared: bool) -> list[str]:
    first = rows[0]
    true = fmean(r.acceleration_true for r in rows)
    cells = [first.volume, first.acquisition, str(first.n_slices), acceleration_label(first.acceleration)]
    cells.append("-" if math.isnan(true) else f"{true:.2f}")
    names = [*_METRICS, *(f"zf_{m}" for m in _METRICS if compared)]
    return cells + [_over_draws([getattr(r, name) for r in rows], name) for name in names]


def _over_draws(values: list[float], name: str) -> str:
    digits = _DIGITS[name.removeprefix("zf_")]
    text = _number(fmean(values), digits)
    return f"{text} ± {stdev(values):{digits}}" if len(values) > 1 else text


def _groups(summary: dict[str, Any], compared: bool) -> str:
    named = {"all": summary["overall"]}
    for group in ("by_acquisition", "by_acceleration", "by_origin"):
        if 1 < len(summary[group]) < summary["overall"]["n_volumes"]:  # not each volume once more
            spell = _times if group == "by_acceleration" else str
            named |= {spell(name): values for name, values in summary[group].items()}
    percent = f"{100 * summary['level']:g} %"
    lines = [["mean ± SD [interval]", "volumes", "patients", "SSIM", "PSNR", "NMSE"]]
    for name, values in named.items():
        counts = [str(values["n_volumes"]), str(values["n_patients"])]
        lines.append([name, *counts, *(_statistics(values[m], m) for m in _METRICS)])
        if compared:
            lines.append(["  zero-filled", "", "", *(_statistics(values[f"zf_{m}"], m) for m in _METRICS)])
            paired = (_statistics(values[f"difference_{m}"], m, "+") for m in _METRICS)
            lines.append(["  paired difference", "", "", *paired])
    return align(lines, left=1) + f"\nSD over volumes; {percent} interval of the mean over patients (needs at least 5)"


def _statistics(values: dict[str, float | None], metric: str, sign: str = "") -> str:
    digits = _DIGITS[metric]
    text = _number(values["mean"], sign + digits)
    if values["sd"] is not None:
        text += f" ± {_number(values['sd'], digits)}"
    if values["low"] is not None:
        text += f" [{_number(values['low'], sign + digits)}, {_number(values['high'], sign + digits)}]"
    return text


def _times(number: str) -> str:
    """`4x`; what is no number stays as it is."""
    return {UNDECLARED: "undeclared acceleration", "-": "-"}.get(number, f"{number}x")


def _number(value: float | None, digits: str) -> str:
    return "-" if value is None else f"{value:{digits}}"


def align(rows: list[list[str]], left: int) -> str:
    """Columns padded to equal width; the first `left` to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
