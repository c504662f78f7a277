"""A comparison as text: tables of scores and differences, and a paragraph that can stand in a paper."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mrirecon.evaluation.pairing import PAIRED_SEEDS
from mrirecon.report.numbers import p_value
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


_MANY = 4  # differing keys that a sentence can name
_ORIGINS = {
    "measured": "measured k-space",
    "simulated-from-phantom": "k-space simulated from phantoms",
    "simulated-from-magnitude": "k-space simulated from magnitude images",
}


def paragraph(result: Mapping[str, Any]) -> str:
    """What was compared on what, the findings, what they rest on and what they leave open.

    Args:
        result: The content of comparison.json without the paragraph.
    """
    found = result["comparisons"][result["metric"]]
    sentences = [
        _setting(result),
        _apart(result["items"]),
        _budget(result["items"]),
        _means(result),
        *(c["words"] for c in found),
    ]
    sentences += [_inference(result), _margin(result)] if found else [_untested(result)]
    return " ".join(filter(None, [*sentences, *result["caveats"]]))


def _setting(result: Mapping[str, Any]) -> str:
    split = f" of the {result['split']} split" * (result["split"] not in ("", "all"))
    return (
        f"{listed([item['name'] for item in result['items']])} were compared on the same "
        f"{_count(result['n_volumes'], 'volume')} of {_count(result['n_patients'], 'patient')}{split} "
        f"({_ORIGINS.get(result['origin'], result['origin'])}), {_masks(result)}, and scored under the protocol "
        f"{result['protocol']} (means over {'slices' if result['per_slice'] else 'volumes'})."
    )


def _apart(items: Sequence[Mapping[str, Any]]) -> str:
    """In what the trainings differ."""
    trained = [item for item in items if item["settings"]]
    keys = list(trained[0]["settings"]) if trained else []
    apart = [f"{key} ({'; '.join(str(item['settings'][key]) for item in trained)})" for key in keys]
    if len(keys) > _MANY:
        apart = [f"{len(keys)} keys of their configurations"]
    return f"The trainings differ in {listed(apart)}." if apart else ""


def _budget(items: Sequence[Mapping[str, Any]]) -> str:
    """How long the trainings were, where all that are known were equally long."""
    budgets = {item["name"]: item["budget"] for item in items if item["budget"]}
    if len(set(budgets.values())) != 1:
        return ""
    who = "Each" if len(budgets) == len(items) else listed(list(budgets))
    return f"{who} took {next(iter(budgets.values()))}."


def _masks(result: Mapping[str, Any]) -> str:
    if result["mask"] == "undeclared":
        return "of undeclared masks"
    kind = "with the masks of the files" if result["mask"] == "file" else f"undersampled with {result['mask']} masks"
    true, fraction = result["acceleration_true"], result["center_fraction"]
    details = [] if true is None else [f"true {times(true, '.2f')}"]
    details += [] if fraction is None else [f"center fraction {fraction:g}"]
    details += [f"{_count(result['n_draws'], 'mask')} per volume{', the same for all' * result['masks_agree']}"]
    known = "" if result["masks_agree"] else ", as far as declared"
    return f"{kind} at {times(result['acceleration'])} ({', '.join(details)}){known}"


def _means(result: Mapping[str, Any]) -> str:
    rows = [(item["name"], item) for item in result["items"]]
    rows += [("zero-filled", result["zero_filled"])] if result["zero_filled"] else []
    has_seeds = any(len(item["seeds"]) > 1 for item in result["items"])
    what = f"Mean {' / '.join(map(label_of, result['better']))}{' (± SD between seeds)' * has_seeds}"
    return f"{what}: " + "; ".join(f"{name} {_all(row, result['better'])}" for name, row in rows) + "."


def _all(row: Mapping[str, Any], metrics: Iterable[str]) -> str:
    return " / ".join(score(row[metric], metric) + unit_of(metric) for metric in metrics)


def _inference(result: Mapping[str, Any]) -> str:
    found = result["comparisons"][result["metric"]]
    over = {"seeds and volumes": "seeds and patients", "volumes": "patients"}.get(found[0]["generalizes"], "seeds")
    crossed = " (crossed random effects, Satterthwaite)" * (over == "seeds and patients")
    flipped = "seeds" if result["pairing"] == PAIRED_SEEDS else "patients"
    paired = "by volume and seed" if result["pairing"] == PAIRED_SEEDS else "by volume"
    adjusted = f", adjusted for {len(found)} comparisons by the step-down max-T method of Westfall and Young"
    return (
        f"Differences are paired {paired}; 95 % t intervals are over {over}{crossed}, p values are two-sided "
        f"sign-flip tests over {flipped}{adjusted * (len(found) > 1)}."
    )


def _margin(result: Mapping[str, Any]) -> str:
    margin = result["margins"][result["metric"]]
    if margin["value"] is None:
        return f"Equivalence was not tested, since {margin['reason']}."
    return f"Differences within {margin['value']:.3g}{unit_of(result['metric'])} ({margin['reason']}) count as none."


def _untested(result: Mapping[str, Any]) -> str:
    return f"No difference was tested: {result['not_tested'][result['metric']]}."


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
