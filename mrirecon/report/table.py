"""The terminal table of an evaluation."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from mrirecon.evaluation.results import VolumeResult, by_volume

MAX_ROWS = 20  # more volumes than this: the worst and the best
_WORST, _BEST = 6, 4
_DIGITS = {"ssim": ".4f", "psnr": ".2f", "nmse": ".4f"}
_METRICS = tuple(_DIGITS)


def evaluation_table(results: Sequence[VolumeResult], summary: dict[str, Any]) -> str:
    """Scores per volume (the worst and best of many) and means over groups, as text.

    Args:
        results: Rows of one reconstructor at one nominal acceleration, or with the masks of the files.
        summary: Of the same rows, from `summarize`.
    """
    first = results[0]
    network = first.reconstructor != "zero-filled"
    parts = [_caption(results, summary), _volumes(results, network), _groups(summary, network)]
    return "\n\n".join(parts)


def _caption(results: Sequence[VolumeResult], summary: dict[str, Any]) -> str:
    first, overall = results[0], summary["overall"]
    nominal = ", ".join(f"{float(r):g}x" for r in summary["by_acceleration"])
    origins = ", ".join(f"{name} {group['n_volumes']}" for name, group in summary["by_origin"].items())
    checkpoint = f" ({first.checkpoint} checkpoint)" if first.checkpoint else ""
    return (
        f"{first.reconstructor}{checkpoint}, {first.mask} mask, {nominal} (true "
        f"{_number(overall['acceleration_true'], '.2f')}x), protocol {first.protocol}, per volume\n"
        f"{overall['n_volumes']} volumes of {overall['n_patients']} patients ({origins}), "
        f"{overall['n_draws']} mask {'draw' if overall['n_draws'] == 1 else 'draws'} each"
    )


def _volumes(results: Sequence[VolumeResult], network: bool) -> str:
    groups = list(by_volume(results).values())
    header = ["volume", "acquisition", "slices", "R", "true R", "SSIM", "PSNR", "NMSE"]
    header += ["zf SSIM", "zf PSNR", "zf NMSE"] if network else []
    rows = [_volume_row(rows, network) for rows in groups]
    note = ""
    if len(rows) > MAX_ROWS:
        order = sorted(range(len(rows)), key=lambda i: fmean(r.ssim for r in groups[i]))
        rows = [rows[i] for i in [*order[:_WORST], *order[-_BEST:]]]
        note = f"\n(the {_WORST} worst and {_BEST} best of {len(order)} by SSIM; all are in volumes.csv)"
    draws = max(len(rows) for rows in groups)
    note += f"\n(mean ± SD over {draws} mask draws)" if draws > 1 else ""
    note += "\n(zf: the zero-filled image of the same masks)" if network else ""
    return _align([header, *rows], left=2) + note


def _volume_row(rows: Sequence[VolumeResult], network: bool) -> list[str]:
    first = rows[0]
    true = fmean(r.acceleration_true for r in rows)
    cells = [first.volume, first.acquisition, str(first.n_slices), f"{first.acceleration:g}", f"{true:.2f}"]
    names = [*_METRICS, *(f"zf_{m}" for m in _METRICS if network)]
    return cells + [_over_draws([getattr(r, name) for r in rows], name) for name in names]


def _over_draws(values: list[float], name: str) -> str:
    digits = _DIGITS[name.removeprefix("zf_")]
    text = _number(fmean(values), digits)
    return f"{text} ± {stdev(values):{digits}}" if len(values) > 1 else text


def _groups(summary: dict[str, Any], network: bool) -> str:
    named = {"all": summary["overall"]}
    for group in ("by_acquisition", "by_acceleration", "by_origin"):
        if 1 < len(summary[group]) < summary["overall"]["n_volumes"]:  # not each volume once more
            suffix = "x" if group == "by_acceleration" else ""
            named |= {f"{name}{suffix}": values for name, values in summary[group].items()}
    percent = f"{100 * summary['level']:g} %"
    lines = [["mean ± SD [interval]", "volumes", "patients", "SSIM", "PSNR", "NMSE"]]
    for name, values in named.items():
        counts = [str(values["n_volumes"]), str(values["n_patients"])]
        lines.append([name, *counts, *(_statistics(values[m], m) for m in _METRICS)])
        if network:
            lines.append(["  zero-filled", "", "", *(_statistics(values[f"zf_{m}"], m) for m in _METRICS)])
            paired = (_statistics(values[f"difference_{m}"], m, "+") for m in _METRICS)
            lines.append(["  paired difference", "", "", *paired])
    return _align(lines, left=1) + f"\nSD over volumes; {percent} interval of the mean over patients (needs at least 5)"


def _statistics(values: dict[str, float | None], metric: str, sign: str = "") -> str:
    digits = _DIGITS[metric]
    text = _number(values["mean"], sign + digits)
    if values["sd"] is not None:
        text += f" ± {_number(values['sd'], digits)}"
    if values["low"] is not None:
        text += f" [{_number(values['low'], sign + digits)}, {_number(values['high'], sign + digits)}]"
    return text


def _number(value: float | None, digits: str) -> str:
    return "-" if value is None else f"{value:{digits}}"


def _align(rows: list[list[str]], left: int) -> str:
    """Columns padded to equal width; the first `left` to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
