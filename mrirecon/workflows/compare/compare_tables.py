"""Compare finished runs and tables: paired differences, what they rest on, a verdict in words."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mrirecon.config import CompareConfig
from mrirecon.configfile import require_ranges
from mrirecon.errors import InputError
from mrirecon.evaluation.comparable import of_origin
from mrirecon.evaluation.pairing import Pairs, pair
from mrirecon.evaluation.stats import Side
from mrirecon.files import write_json
from mrirecon.report.run_files import COMPARISON
from mrirecon.report.text.comparison import comparison_text
from mrirecon.tables.entry import named
from mrirecon.tables.metrics import METRICS, label_of
from mrirecon.workflows.compare.items import Cell, find_items, group_by_seed
from mrirecon.workflows.compare.result import check_margin, comparison_result, side
from mrirecon.workflows.outputs.new_folder import new_folder, require_free

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
            _write_differences(folder / _DIFFERENCES, cells, pairs)
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


def _write_differences(path: Path, cells: Sequence[Cell], pairs: Pairs) -> None:
    """One row for each metric, pair, seed and volume; floats keep all their digits."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(_COLUMNS)
        for metric in pairs.scores:
            writer.writerows(_difference_rows(metric, cells, pairs))


def _difference_rows(metric: str, cells: Sequence[Cell], pairs: Pairs) -> Iterator[tuple[Any, ...]]:
    """Of each seed that both have; where they share none, or have none, of the means over their runs."""
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
