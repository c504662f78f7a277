"""Tables of a run's page: what every evaluation of it found, as groups and as volumes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mrirecon.report.html_table import Column, Entry, Table, measured
from mrirecon.report.numbers import DIGITS, NONE, interval, number

_GROUPS = (
    Column("volumes of"),
    Column("n", True, "volumes, and their patients"),
    Column("image"),
    Column("SSIM", True, "mean over volumes, 95 % interval over patients, from 5 patients on"),
    Column("PSNR (dB)", True),
    Column("NMSE", True),
)
_VOLUMES = (
    Column("volume"),
    Column("acquisition"),
    Column("slices", True),
    Column("R", True, "nominal acceleration"),
    Column("true R", True),
    Column("draw", True, "mask draw; 0 is fastMRI's"),
    Column("SSIM", True),
    Column("PSNR (dB)", True),
    Column("NMSE", True),
    Column("gain in SSIM", True, "over the zero-filled image of the same mask"),
)
_KINDS = {"": "reconstruction", "zf_": "zero-filled", "difference_": "paired difference"}


def group_table(summary: Mapping[str, Any], name: str) -> Table:
    """Means of an evaluation, overall and by group where there is more than one."""
    groups = {"all": summary.get("overall") or {}}
    for key in ("by_acquisition", "by_acceleration", "by_origin"):
        found = summary.get(key) or {}
        groups |= {
            f"{label}x" if key == "by_acceleration" else label: g for label, g in found.items() if len(found) > 1
        }
    return Table(name, _GROUPS, [row for label, group in groups.items() for row in _group_rows(label, group)])


def _group_rows(label: str, group: Mapping[str, Any]) -> Iterator[list[Entry]]:
    n = group.get("n_volumes")
    for prefix, kind in _KINDS.items():
        means = [group.get(prefix + metric) for metric in DIGITS]
        if all((mean or {}).get("mean") is None for mean in means):
            continue
        sign = "+" if prefix == "difference_" else ""
        count = Entry(NONE if n is None else str(n), n, _patients(group))
        scores = [measured(mean, sign + digits) for mean, digits in zip(means, DIGITS.values(), strict=True)]
        yield [Entry(label, kind="name"), count, Entry(kind), *scores]


def volume_table(rows: Sequence[Mapping[str, str]], name: str) -> Table:
    """Every row of an evaluation's volumes.csv."""
    return Table(name, _VOLUMES, [_volume(row) for row in rows])


def _volume(row: Mapping[str, str]) -> list[Entry]:
    values = {key: _float(row.get(key)) for key in (*DIGITS, "zf_ssim", "n_slices", "acceleration", "mask_draw")}
    true, ssim, zero_filled = _float(row.get("acceleration_true")), values["ssim"], values["zf_ssim"]
    gain = None if ssim is None or zero_filled is None else ssim - zero_filled
    plain = [Entry(number(values[key], "g"), values[key]) for key in ("n_slices", "acceleration")]
    return [
        Entry(row.get("volume") or NONE, kind="name"),
        Entry(row.get("acquisition") or NONE),
        *plain,
        Entry(number(true, ".2f"), true),
        Entry(number(values["mask_draw"], "g"), values["mask_draw"]),
        *(Entry(number(values[key], digits), values[key]) for key, digits in DIGITS.items()),
        Entry(number(gain, "+.4f"), gain),
    ]


def evaluation_words(summary: Mapping[str, Any]) -> str:
    """The result of an evaluation in one sentence."""
    overall = summary.get("overall") or {}
    ssim = overall.get("ssim") or {}
    if ssim.get("mean") is None:
        return "no SSIM is recorded."
    limits = interval(ssim, ".4f")
    zero_filled = (overall.get("zf_ssim") or {}).get("mean")
    beside = "" if zero_filled is None else f", zero-filled {number(zero_filled, '.4f')}"
    n = overall.get("n_volumes", "?")
    count = f"{n} volume{'s' * (n != 1)} of {_patients(overall)}"
    checkpoint = f", {summary['checkpoint']} checkpoint" if summary.get("checkpoint") else ""
    score = f"{ssim['mean']:.4f}{' ' * bool(limits)}{limits}"
    return f"SSIM {score}{beside} ({count}{checkpoint})."


def _patients(group: Mapping[str, Any]) -> str:
    n = group.get("n_patients", "?")
    return f"{n} patient{'s' * (n != 1)}"


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
