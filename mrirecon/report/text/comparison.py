"""A comparison as text: tables of scores and differences, and what a reader has to know of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.evaluation.pairing import PAIRED_SEEDS
from mrirecon.report.pages.numbers import p_value
from mrirecon.report.text.table import align
from mrirecon.tables.metrics import digits_of, label_of, unit_of

_NONE = "-"


def comparison_text(result: Mapping[str, Any]) -> str:
    """Everything that `mrirecon compare` prints.

    Args:
        result: The content of comparison.json.
    """
    parts = [_caption(result), _scores(result)]
    parts += [_differences(result, metric) for metric in result["comparisons"]]
    if any(result["comparisons"].values()):
        parts.append(_legend(result))
    if result["warnings"]:
        parts.append("\n".join(f"note: {warning}" for warning in result["warnings"]))
    return "\n\n".join([*parts, f"For a paper:\n{result['paragraph']}"])


def _legend(result: Mapping[str, Any]) -> str:
    who = "seeds" if result["pairing"] == PAIRED_SEEDS else "patients"
    return (
        f"p: two-sided sign flips over {who}; superiority: share of {who} at which it is better; detectable: the true "
        "difference found with 80 % power"
    )


def _caption(result: Mapping[str, Any]) -> str:
    draws = f"{result['n_draws']} mask {'draw' if result['n_draws'] == 1 else 'draws'} each"
    split = f", split {result['split']}" if result["split"] else ""
    lines = [
        f"{len(result['items'])} compared on the same {result['n_volumes']} volumes of {result['n_patients']} patients "
        f"({result['origin']}){split}",
        f"{result['mask']} mask, {times(result['acceleration'])} (true {times(result['acceleration_true'], '.2f')}), "
        f"{draws}, protocol {result['protocol']}",
    ]
    return "\n".join(lines)


def times(values: float | Sequence[float | None] | None, digits: str = "g") -> str:
    """`4x and 8x`; undeclared where a nominal acceleration is not known, else a dash."""
    if isinstance(values, Sequence):
        return " and ".join("undeclared acceleration" if v is None else times(v) for v in values)
    return _NONE if values is None else f"{values:{digits}}x"


def _scores(result: Mapping[str, Any]) -> str:
    metrics = list(result["better"])
    rows = [["", "seeds", *map(label_of, metrics), "runs or tables"]]
    for i, item in enumerate(result["items"]):
        name = item["name"] + " (reference)" * (i == 0)
        seeds = ", ".join(map(str, item["seeds"])) or _NONE
        rows.append([name, seeds, *(score(item[metric], metric) for metric in metrics), ", ".join(item["paths"])])
    if result["zero_filled"]:
        rows.append(["zero-filled", _NONE, *(score(result["zero_filled"][m], m) for m in metrics), ""])
    over = "slices" if result["per_slice"] else "volumes"
    note = f"mean over {over}" + (" and seeds ± SD between seeds" if _has_seeds(result) else "")
    settings = [_settings(item) for item in result["items"] if item["settings"]]
    return "\n".join([align(_last_to_the_left(rows), left=1), note, *settings])


def _last_to_the_left(rows: list[list[str]]) -> list[list[str]]:
    width = max(len(row[-1]) for row in rows)
    return [[*row[:-1], row[-1].ljust(width)] for row in rows]


def _has_seeds(result: Mapping[str, Any]) -> bool:
    return any(len(item["seeds"]) > 1 for item in result["items"])


def _settings(item: Mapping[str, Any]) -> str:
    return f"{item['name']}: " + ", ".join(f"{key} {value}" for key, value in item["settings"].items())


def score(values: Mapping[str, float | None], metric: str) -> str:
    """`0.7084 ± 0.0860`, the SD between seeds where there are some."""
    if values["mean"] is None:
        return _NONE
    sd = values.get("sd_seeds")
    return f"{values['mean']:{digits_of(metric)}}" + (f" ± {sd:{digits_of(metric)}}" if sd is not None else "")


def _differences(result: Mapping[str, Any], metric: str) -> str:
    title = f"{label_of(metric)} minus that of {result['reference']} ({result['better'][metric]} is better)"
    found = result["comparisons"][metric]
    if not found:
        return f"{title}: not tested, {result['not_tested'][metric]}"
    in_family = len(found) > 1
    header = ["", "difference", "95 % interval", *(["in the family"] * in_family), "bootstrap", "p"]
    header += [*(["p in the family"] * in_family), "superiority", "p equivalent", "detectable", "verdict"]
    rows = [_difference_row(c, in_family) for c in found]
    margin = result["margins"][metric]
    note = f"equivalent: within {margin['value']:.3g}{unit_of(metric)}" if margin["value"] else "no margin"
    return "\n".join([f"{title}; {note}", align(_last_to_the_left([header, *rows]), left=1)])


def _difference_row(c: Mapping[str, Any], in_family: bool) -> list[str]:
    row = [c["name"], f"{c['effect']:+.3g}", _interval(c["low"], c["high"])]
    row += [_interval(c["low_family"], c["high_family"])] * in_family
    row += [_interval(c["bootstrap_low"], c["bootstrap_high"]), p_value(c["p"])]
    row += [p_value(c["p_family"])] * in_family
    equal = _NONE if c["tost_p"] is None else p_value(c["tost_p"])
    undeclared = " (undeclared mask)" * c["undeclared"]
    return [*row, f"{100 * c['superiority']:.0f} %", equal, f"{c['mde']:.2g}", c["verdict"] + undeclared]


def _interval(low: float, high: float) -> str:
    return f"[{low:+.3g}, {high:+.3g}]"
