"""The content of comparison.json: scores, paired differences, what they rest on."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean, stdev
from typing import Any

import mrirecon
from mrirecon.config.compare import CompareConfig
from mrirecon.evaluation.pairing import Pairs
from mrirecon.evaluation.protocol import PROTOCOLS
from mrirecon.evaluation.stats import HIGHER, Comparison, better_is
from mrirecon.report.text.comparison import paragraph
from mrirecon.workflows.compare.caveats import caveats_of, undeclared_cells, words_of
from mrirecon.workflows.compare.cells import Cell
from mrirecon.workflows.compare.differences import (
    compare_differences,
    design,
    differences,
    find_margin,
    mean_scores,
    mean_zero_filled,
    why_not_tested,
)
from mrirecon.workflows.compare.notes import budget, warnings_of


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
        "warnings": [*warnings_of(cells), *(f"not compared: {reason}" for reason in pairs.left_out.values())],
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
    """Of the reference over the zero-filled image, above 0 where it is better; NaN where it is not known."""
    gap = float(mean_scores(reference, pairs, metric).mean()) - mean_zero_filled(pairs, metric)
    return gap if better_is(metric) == HIGHER else -gap


def _center_fraction(cells: Sequence[Cell]) -> float | None:
    found = [item.summary.get("center_fraction") for cell in cells for item in cell.items]
    return next((value for value in found if value is not None), None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
