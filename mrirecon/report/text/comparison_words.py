"""A comparison as a paragraph that can stand in a paper."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mrirecon.evaluation.pairing import PAIRED_SEEDS
from mrirecon.report.text.comparison import score, times
from mrirecon.tables.metrics import label_of, unit_of

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
