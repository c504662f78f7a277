"""Compute the content of comparison.json: scores, paired differences, how large a difference counts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np

import mrirecon
from mrirecon.config import CompareConfig
from mrirecon.errors import InputError
from mrirecon.evaluation.pairing import PAIRED_SEEDS, SEED_MEANS, SINGLE_RUNS, Pairs
from mrirecon.evaluation.protocol import PROTOCOLS
from mrirecon.evaluation.stats import HIGHER, Comparison, better_is, compare_family
from mrirecon.evaluation.stats.crossed import what_is_sampled
from mrirecon.report.text.comparison import paragraph
from mrirecon.workflows.compare.items import TRAINING, Cell
from mrirecon.workflows.compare.notes import budget, caveats_of, undeclared_cells, warnings_of, words_of


class Margin(NamedTuple):
    """Differences within `value`, in units of the metric, count as none; None: nothing says how large they may be."""

    value: float | None
    reason: str  # where it comes from, or why there is none


def design(cells: Sequence[Cell]) -> str:
    """Return how seeds pair: PAIRED_SEEDS, SEED_MEANS or SINGLE_RUNS.

    Seeds pair where all trainings have the same ones; a method or foreign images, without seeds, pair with each.
    """
    if all(len(cell.items) == 1 for cell in cells):
        return SINGLE_RUNS
    trained = [cell.items[0].kind == TRAINING for cell in cells]
    seeds = {cell.seeds for cell, is_trained in zip(cells, trained, strict=True) if is_trained}
    has_seeds = trained[0] or all(trained[1:])  # every difference to the first has them
    return PAIRED_SEEDS if len(seeds) == 1 and has_seeds else SEED_MEANS


def aligned(cells: Sequence[Cell], scores: np.ndarray, over: str) -> list[np.ndarray]:
    """The scores of each cell, all of one shape (n_seeds, n_units); one row, the mean, where seeds do not pair.

    Args:
        cells: What is compared.
        scores: Of all items, (n_items, n_units).
        over: What `design` says.
    """
    tables = [scores[list(cell.rows)] for cell in cells]
    if over != PAIRED_SEEDS:
        tables = [table.mean(axis=0, keepdims=True) for table in tables]
    n_seeds = max(map(len, tables))
    return [np.broadcast_to(table, (n_seeds, table.shape[1])) for table in tables]


def differences(cells: Sequence[Cell], scores: np.ndarray, over: str) -> dict[str, np.ndarray]:
    """Each cell minus the first, (n_seeds, n_units); see `aligned`."""
    reference, *others = aligned(cells, scores, over)
    with np.errstate(invalid="ignore"):  # a perfect image has an infinite PSNR
        return {cell.name: table - reference for cell, table in zip(cells[1:], others, strict=True)}


def mean_scores(cell: Cell, pairs: Pairs, metric: str) -> np.ndarray:
    """Return the mean score of each run of a cell over the units, (n_seeds,)."""
    return np.average(pairs.scores[metric][list(cell.rows)], axis=1, weights=pairs.weights)


def mean_zero_filled(pairs: Pairs, metric: str) -> float:
    """Return the mean score of the zero-filled images over the units; NaN where it is not known."""
    return float(np.average(pairs.zero_filled[metric], weights=pairs.weights))


def check_margin(text: str) -> None:
    """Refuse a margin that is no share and no number.

    Raises:
        InputError: It is neither, or not above 0.
    """
    number = text.removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"--margin {text}; give a share of the gap, such as 1%, or a number above 0, such as 0.001")


def find_margin(text: str, gain: float, reference: str, is_chosen: bool) -> Margin:
    """The largest difference that counts as none.

    Args:
        text: A share such as `1%`, or a number in units of the chosen metric (of the others the share is 1 % then).
        gain: Of the reference over the zero-filled image in this metric; not finite where it is not known.
        reference: Its name.
        is_chosen: This is the metric of the verdict.
    """
    if is_chosen and not text.endswith("%"):
        return Margin(float(text), "stated beforehand")
    if not math.isfinite(gain):
        return Margin(None, "the zero-filled scores are not known")
    if gain == 0:
        return Margin(None, "the reference is the zero-filled image")
    if gain < 0:
        return Margin(None, f"{reference} is worse than the zero-filled image")
    percent = float(text.removesuffix("%")) if text.endswith("%") else 1.0
    return Margin(percent / 100 * gain, f"{percent:g} % of the gap from the zero-filled image to {reference}")


def why_not_tested(over: str, named: Mapping[str, np.ndarray], pairs: Pairs) -> str:
    """Word why nothing can be inferred from these differences `(n_seeds, n_units)`; empty where it can."""
    if not all(np.isfinite(d).all() for d in named.values()):
        return "some scores are not finite (a perfect or a broken image, or no object in it)"
    n_seeds = len(next(iter(named.values())))
    try:
        what_is_sampled(n_seeds, len(set(pairs.patients)))
    except InputError:
        runs = {SEED_MEANS: "seeds that do not pair", SINGLE_RUNS: "one run of each"}[over]
        return f"{runs} and {len(set(pairs.patients))} patients say too little; it takes 2 paired seeds or 5 patients"
    return ""


def compare_differences(
    named: Mapping[str, np.ndarray], pairs: Pairs, metric: str, margin: float | None, seed: int
) -> list[Comparison]:
    """Compare the family of all differences `(n_seeds, n_units)` of one metric."""
    return compare_family(named, pairs.patients, metric=metric, better=better_is(metric), margin=margin, seed=seed)


def comparison_result(config: CompareConfig, cells: Sequence[Cell], pairs: Pairs) -> dict[str, Any]:
    """Everything that is known of a comparison, ready for JSON; what cannot be computed is null.

    Args:
        config: What the verdict is about.
        cells: What is compared; the first is the reference.
        pairs: The scores.
    """
    over = design(cells)
    per_slice = pairs.protocol in PROTOCOLS and PROTOCOLS[pairs.protocol].per_slice
    result: dict[str, Any] = {
        "schema": 1,
        "mrirecon": mrirecon.__version__,
        "metric": config.metric,
        "reference": cells[0].name,
        "better": {metric: better_is(metric) for metric in pairs.scores},
        "protocol": pairs.protocol,
        "per_slice": per_slice,
        "mask": pairs.mask,
        "acceleration": [_finite(value) for value in sorted(set(pairs.accelerations))],
        "acceleration_true": _finite(pairs.acceleration_true),
        "center_fraction": _center_fraction(cells),
        "origin": pairs.origin,
        "split": pairs.split,
        "n_volumes": len(set(pairs.volumes)),
        "n_patients": len(set(pairs.patients)),
        "n_draws": pairs.n_draws,
        "masks_agree": not pairs.undeclared and not pairs.unchecked,
        "pairing": over,
        "items": [_item(cell, pairs) for cell in cells],
        "zero_filled": _zero_filled(cells, pairs),
        **_inference(config, cells, pairs, over),
        "caveats": caveats_of(cells, pairs, over),
        "excluded": [one._asdict() for one in pairs.excluded],
        "warnings": [*warnings_of(cells, pairs), *(f"not compared: {reason}" for reason in pairs.left_out.values())],
    }
    return {**result, "paragraph": paragraph(result)}


def _item(cell: Cell, pairs: Pairs) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": cell.name,
        "kind": cell.items[0].kind,
        "paths": [item.table.name for item in cell.items],
        "tables": [str(item.path) for item in cell.items],
        "checkpoint": cell.items[0].table.rows[0].checkpoint or None,
        "seeds": list(cell.seeds),
        "budget": budget(cell.items[0]),
        "settings": dict(cell.settings),
    }
    for metric in pairs.scores:
        means = mean_scores(cell, pairs, metric).tolist()
        has_sd = len(means) > 1 and all(map(math.isfinite, means))
        described[metric] = {"mean": _finite(fmean(means)), "sd_seeds": stdev(means) if has_sd else None}
    return described


def _zero_filled(cells: Sequence[Cell], pairs: Pairs) -> dict[str, Any] | None:
    """Its means, unless it is among the compared or not known."""
    means = {metric: {"mean": _finite(mean_zero_filled(pairs, metric))} for metric in pairs.scores}
    is_compared = any(item.table.rows[0].reconstructor == "zero-filled" for cell in cells for item in cell.items)
    is_known = any(values["mean"] is not None for values in means.values())
    return means if is_known and not is_compared else None


def _inference(config: CompareConfig, cells: Sequence[Cell], pairs: Pairs, over: str) -> dict[str, Any]:
    """The families of differences, one for each metric; that of the verdict comes first."""
    comparisons: dict[str, list[dict[str, Any]]] = {}
    not_tested: dict[str, str] = {}
    margins: dict[str, dict[str, Any]] = {}
    for metric in (config.metric, *(m for m in pairs.scores if m != config.metric)):
        gain = _gain(cells[0], pairs, metric)
        margin = find_margin(config.margin, gain, cells[0].name, metric == config.metric)
        named = differences(cells, pairs.scores[metric], over)
        margins[metric], comparisons[metric] = margin._asdict(), []
        if reason := why_not_tested(over, named, pairs):
            not_tested[metric] = reason
            continue
        found = compare_differences(named, pairs, metric, margin.value, config.seed)
        comparisons[metric] = [
            _comparison(c, cell, cells[0], pairs, over) for c, cell in zip(found, cells[1:], strict=True)
        ]
    return {"comparisons": comparisons, "not_tested": not_tested, "margins": margins}


def _comparison(found: Comparison, cell: Cell, reference: Cell, pairs: Pairs, over: str) -> dict[str, Any]:
    values = {key: _finite(value) if isinstance(value, float) else value for key, value in asdict(found).items()}
    undeclared = bool(undeclared_cells((cell, reference), pairs))
    return {**values, "undeclared": undeclared, "words": words_of(found, cell, reference, pairs, over)}


def _gain(reference: Cell, pairs: Pairs, metric: str) -> float:
    """Return the gain of the reference over the zero-filled image, above 0 where it is better; NaN: not known."""
    gap = float(mean_scores(reference, pairs, metric).mean()) - mean_zero_filled(pairs, metric)
    return gap if better_is(metric) == HIGHER else -gap


def _center_fraction(cells: Sequence[Cell]) -> float | None:
    found = [item.summary.get("center_fraction") for cell in cells for item in cell.items]
    return next((value for value in found if value is not None), None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
