"""Compare finished runs and tables: paired differences, what they rest on, a verdict in words."""

import csv
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

import mrirecon
from mrirecon.config import CompareConfig
from mrirecon.configfile import require_ranges
from mrirecon.errors import InputError
from mrirecon.evaluation.pairing import Pairs, of_origin, pair
from mrirecon.evaluation.protocol import PROTOCOLS
from mrirecon.evaluation.stats import (
    HIGHER,
    Comparison,
    Margin,
    NotFiniteError,
    Sample,
    Side,
    better_is,
    compare_family,
    sample,
)
from mrirecon.files import new_folder, require_free, write_json
from mrirecon.report.run_files import COMPARISON
from mrirecon.report.text.comparison import comparison_text, paragraph
from mrirecon.tables.entry import named
from mrirecon.tables.metrics import METRICS, label_of
from mrirecon.workflows.compare.items import METHOD, Cell, find_items, group_by_seed
from mrirecon.workflows.compare.notes import budget, caveats_of, undeclared_cells, warnings_of, words_of

_DIFFERENCES = "differences.csv"
_COLUMNS = (
    *("metric", "name", "reference", "seed", "volume", "patient", "acceleration", "n_slices"),
    *("score", "reference_score", "difference"),
)


def compare(config: CompareConfig, words: Sequence[str]) -> dict[str, Any]:
    """Compare everything with the first, print the tables and a paragraph, and write them where asked to.

    Args:
        config: What the verdict is about, which evaluations are used, where to write.
        words: Run folders, folders of an evaluation or volumes.csv files; two or more.

    Returns:
        The content of comparison.json.

    Raises:
        InputError: Tables that must not be mixed, or a wrong call; nothing was written.
    """
    _check(config)
    cells, pairs = _paired(config, words)
    result = comparison_result(config, cells, pairs)
    if config.output:
        with new_folder(Path(config.output)) as folder:
            write_json(folder / COMPARISON, result)
            # one row for each metric, pair, seed and volume; floats keep all their digits
            with (folder / _DIFFERENCES).open("w", newline="", encoding="utf-8") as handle:
                writer = csv.writer(handle)
                writer.writerow(_COLUMNS)
                for metric in pairs.scores:
                    writer.writerows(_difference_rows(metric, cells, pairs))
    print(comparison_text(result), flush=True)
    if config.output:
        print(f"\ntables: {config.output}", flush=True)
    return result


def compared(config: CompareConfig, words: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Compare as `compare` does, and return the content of comparison.json; nothing is printed or written.

    Args:
        config: What the verdict is about.
        words: As for `compare`.
        names: What they are called, unless some of them are trainings that differ in their seed alone.

    Raises:
        InputError: As `compare`.
    """
    _check(config)
    cells, pairs = _paired(config, words)
    if len(cells) == len(names):
        cells = [replace(cell, name=name) for cell, name in zip(cells, names, strict=True)]
    return comparison_result(config, cells, pairs)


def _paired(config: CompareConfig, words: Sequence[str]) -> tuple[list[Cell], Pairs]:
    """Pair what is compared with the scores of the units that all share."""
    items = find_items(words, config)
    tables = [of_origin(item.table, config.origin) if config.origin else item.table for item in items]
    cells = group_by_seed(items, config.names)
    pairs = pair(tables, config.allow_undeclared)
    if config.metric not in pairs.scores:
        why = pairs.left_out.get(config.metric, "no table has it")
        raise InputError(
            f"no {label_of(config.metric)} to compare ({why}); evaluate all with it (--metrics), or give --metric one "
            f"that all have: {', '.join(pairs.scores)}"
        )
    return cells, pairs


def _check(config: CompareConfig) -> None:
    named(METRICS, config.metric, "metric")
    require_ranges(config)
    check_margin(config.margin)
    if config.output:
        require_free(Path(config.output), COMPARISON, config.overwrite)


def _difference_rows(metric: str, cells: Sequence[Cell], pairs: Pairs) -> Iterator[tuple[Any, ...]]:
    """Subtract the scores of the reference from those of every other, unit by unit.

    For each seed that both have; where they share none, or have none, the means over their runs.
    """
    reference = side(cells[0], pairs.scores[metric], -1.0)
    units = list(zip(pairs.volumes, pairs.patients, pairs.accelerations, pairs.n_slices, strict=True))
    for cell in cells[1:]:
        for seed, scores, there in _rows(side(cell, pairs.scores[metric], 1.0), reference):
            for unit, a, b in zip(units, scores.tolist(), there.tolist(), strict=True):
                yield (metric, cell.name, cells[0].name, seed, *unit, a, b, a - b)


def _rows(first: Side, second: Side) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    if first.seeds is None and second.seeds is None:
        yield "", first.scores[0], second.scores[0]
        return
    own, others = first.seeds or second.seeds or (), second.seeds or first.seeds or ()
    shared = [seed for seed in own if seed in others]
    if not shared:
        yield "", first.scores.mean(axis=0), second.scores.mean(axis=0)
    for seed in shared:
        yield (
            seed,
            *(s.scores[0] if s.seeds is None else s.scores[list(s.seeds).index(seed)] for s in (first, second)),
        )


# ---- compute the content of comparison.json: scores, paired differences, how large a difference counts


def side(cell: Cell, scores: np.ndarray, weight: float) -> Side:
    """The runs of a cell as one side of a comparison; a method has no seeds, a set of images is a run of its own.

    Args:
        cell: What is compared.
        scores: Of all items, (n_items, n_units).
        weight: 1 of the first side, -1 of the second.
    """
    if cell.items[0].kind == METHOD:
        return Side(scores[list(cell.rows)], None, weight)
    seeds: Sequence[Hashable] = cell.seeds
    if len(seeds) != len(cell.items):
        seeds = [item.table.name for item in cell.items]
    return Side(scores[list(cell.rows)], seeds, weight)


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
    if not text:
        return
    number = text.removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"--margin {text}; give a share of the gap, such as 1%, or a number above 0, such as 0.001")


def find_margin(text: str, gain: float, reference: str, is_chosen: bool) -> tuple[Margin | None, str]:
    """The largest difference that counts as none, or why there is none.

    Args:
        text: A number in units of the chosen metric, or a share of the gap such as `1%`; empty: none.
        gain: Of the reference over the zero-filled image in this metric; not finite where it is not known.
        reference: Its name.
        is_chosen: This is the metric of the verdict.
    """
    if not text:
        return None, "no margin was given (--margin)"
    if not text.endswith("%"):
        late = Margin(float(text), "chosen when reading", is_late=True)
        return (late, "") if is_chosen else (None, "the margin is in units of another metric")
    if not math.isfinite(gain):
        return None, "the zero-filled scores are not known"
    if gain == 0:
        return None, "the reference is the zero-filled image"
    if gain < 0:
        return None, f"{reference} is worse than the zero-filled image"
    percent = float(text.removesuffix("%"))
    source = f"{percent:g} % of the gap from the zero-filled image to {reference} in these scores, chosen when reading"
    return Margin(percent / 100 * gain, source, is_late=True), ""


def accelerations(pairs: Pairs) -> list[tuple[str, np.ndarray]]:
    """Each acceleration in words, empty where there is one, and which units are at it, bool (n_units,)."""
    values = np.nan_to_num(np.array(pairs.accelerations))  # 0: undeclared, and then so are all
    several = sorted(set(values.tolist()))
    if len(several) < 2:
        return [("", np.ones(len(values), dtype=bool))]
    return [(f"{value:g}x", values == value) for value in several]


def samples_of(
    cells: Sequence[Cell], pairs: Pairs, metric: str, seed: int
) -> tuple[list[tuple[Cell, str, Sample]], list[tuple[Cell, str, Sample]]]:
    """Return the samples of each cell minus the first, at each acceleration; and of what changes between these.

    Raises:
        InputError: Scores that are not finite, or too little for an interval.
    """
    scores, patients = pairs.scores[metric], np.array(pairs.patients)
    better, (reference, *others) = better_is(metric), cells
    at_each = accelerations(pairs)

    def one(cell: Cell, at: str, columns: np.ndarray, table: np.ndarray) -> tuple[Cell, str, Sample]:
        sides = [side(cell, table, 1.0), side(reference, table, -1.0)]
        name = f"{cell.name} at {at}" if at else cell.name
        return cell, at, sample(name, sides, patients[columns].tolist(), better, seed)

    each = [one(cell, at, columns, scores[:, columns]) for cell in others for at, columns in at_each]
    first_at, first = at_each[0]
    changes = [
        one(cell, f"{at} - {first_at}", both, scores[:, columns][:, there] - scores[:, first][:, here])
        for cell in others
        for at, columns in at_each[1:]
        for both, here, there in [_common(pairs, first, columns)]
    ]
    return each, changes


def _common(pairs: Pairs, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units of the first that have their volume among the second, and their places in the scores of either."""
    volumes = np.array(pairs.volumes)
    _, here, there = np.intersect1d(volumes[first], volumes[second], return_indices=True)
    return np.flatnonzero(first)[here], here, there


def comparison_result(config: CompareConfig, cells: Sequence[Cell], pairs: Pairs) -> dict[str, Any]:
    """Everything that is known of a comparison, ready for JSON; what cannot be computed is null.

    Args:
        config: What the verdict is about.
        cells: What is compared; the first is the reference.
        pairs: The scores.
    """
    per_slice = pairs.protocol in PROTOCOLS and PROTOCOLS[pairs.protocol].per_slice
    found = [item.summary.get("center_fraction") for cell in cells for item in cell.items]
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
        "center_fraction": next((value for value in found if value is not None), None),
        "origin": pairs.origin,
        "split": pairs.split,
        "n_volumes": len(set(pairs.volumes)),
        "n_patients": len(set(pairs.patients)),
        "n_draws": pairs.n_draws,
        "masks_agree": not pairs.undeclared and not pairs.unchecked,
        "items": [_item(cell, pairs) for cell in cells],
        "zero_filled": _zero_filled(cells, pairs),
        **_inference(config, cells, pairs),
        "caveats": caveats_of(cells, pairs),
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


def _inference(config: CompareConfig, cells: Sequence[Cell], pairs: Pairs) -> dict[str, Any]:
    """The families of differences, one for each metric; that of the verdict comes first."""
    comparisons: dict[str, list[dict[str, Any]]] = {}
    changes: dict[str, list[dict[str, Any]]] = {}
    not_tested: dict[str, str] = {}
    margins: dict[str, dict[str, Any]] = {}
    for metric in (config.metric, *(m for m in pairs.scores if m != config.metric)):
        # of the reference over the zero-filled image, above 0 where it is better; NaN: not known
        gain = float(mean_scores(cells[0], pairs, metric).mean()) - mean_zero_filled(pairs, metric)
        gain = gain if better_is(metric) == HIGHER else -gain
        margin, reason = find_margin(config.margin, gain, cells[0].name, metric == config.metric)
        margins[metric] = {"value": margin and margin.value, "reason": margin.source if margin else reason}
        try:
            families = samples_of(cells, pairs, metric, config.seed)
        except InputError as error:
            broken = "some scores are not finite (a perfect or a broken image, or no object in it)"
            not_tested[metric] = broken if isinstance(error, NotFiniteError) else str(error)
            families = [], []
        comparisons[metric], changes[metric] = (
            _family(family, metric, margin, cells[0], pairs) if family else [] for family in families
        )
    return {
        "comparisons": comparisons,
        "by_acceleration": {metric: found for metric, found in changes.items() if found},
        "not_tested": not_tested,
        "margins": margins,
    }


def _family(
    found: Sequence[tuple[Cell, str, Sample]], metric: str, margin: Margin | None, reference: Cell, pairs: Pairs
) -> list[dict[str, Any]]:
    made = compare_family([one for *_, one in found], metric=metric, better=better_is(metric), margin=margin)
    return [_comparison(c, cell, reference, at, pairs) for c, (cell, at, _) in zip(made, found, strict=True)]


def _comparison(found: Comparison, cell: Cell, reference: Cell, at: str, pairs: Pairs) -> dict[str, Any]:
    values = {key: _finite(value) if isinstance(value, float) else value for key, value in asdict(found).items()}
    undeclared = bool(undeclared_cells((cell, reference), pairs))
    return {**values, "at": at, "undeclared": undeclared, "words": words_of(found, cell, reference, at, pairs)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
