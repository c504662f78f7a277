"""Rules that speak of learning rates: what the tuning and the sweep of the cells found. No torch here.

The noise of what a tuning finds is seen in further tuning draws or in further cells only; a single one decides nothing.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from mrirecon.ablation.claims.cells import Needs, matching, pairs
from mrirecon.ablation.claims.evidence import ABSENT, Evidence, Rule, cells_of, evidence_of, over_draws
from mrirecon.ablation.claims.measures import Limits, best_rate, bounce_slope, failing_rate
from mrirecon.ablation.claims.sources import Sources
from mrirecon.ablation.study.records import RunResult

T = TypeVar("T")


def rate_ratio(first: Needs, second: Needs, may_differ: Sequence[str]) -> Rule:
    """Natural logarithm of the ratio of the best learning rates, mean over all matched pairs."""

    def rule(sources: Sources) -> Evidence:
        found = pairs(sources.grid, first, second, may_differ)
        if not found:
            return ABSENT
        cells = cells_of(found)
        if edges := sources.edges(cells):
            return Evidence(cells, unclear=f"the best rate lies at the edge of its range in {', '.join(edges)}")
        rates = _by_cell(sources, cells, best_rate)
        values = {
            f"{a} / {b}": [Limits(x - y, x - y) for x, y in zip(rates[a], rates[b], strict=True)] for a, b in found
        }
        return _tuned(sources, cells, values, "pairs of cells")

    return rule


def failing_ratio(sources: Sources) -> Evidence:
    """Natural logarithm of the failing rate over the best one, mean over all cells."""
    if not sources.grid.tuning.sweep:
        return ABSENT
    cells = [cell.name for cell in sources.grid.cells]
    fails = _by_cell(sources, cells, lambda tried: failing_rate(tried, sources))
    best = _by_cell(sources, cells, best_rate)
    values = {
        cell: [Limits(f.low - b, f.high - b) for f, b in zip(fails[cell], best[cell], strict=True)] for cell in cells
    }
    return _tuned(sources, tuple(cells), values, "cells", _not_known(sources, fails))


def failing_gain(first: Needs, second: Needs, may_differ: Sequence[str]) -> Rule:
    """Natural logarithm of the first cells' failing rate over the second's; mean over the cells of one second cell."""

    def rule(sources: Sources) -> Evidence:
        found = pairs(sources.grid, first, second, may_differ)
        if not found or not sources.grid.tuning.sweep:
            return ABSENT
        fails = _by_cell(sources, cells_of(found), lambda tried: failing_rate(tried, sources))
        of_second: dict[str, list[np.ndarray]] = defaultdict(list)
        for a, b in found:
            ratios = [(x.low - y.high, x.high - y.low) for x, y in zip(fails[a], fails[b], strict=True)]
            of_second[b].append(np.array(ratios))
        values = {b: [Limits(*row) for row in np.mean(rows, axis=0)] for b, rows in of_second.items()}
        return _tuned(sources, cells_of(found), values, "cells without norm", _not_known(sources, fails))

    return rule


def bounce_over_rate(needs: Needs) -> Rule:
    """Slope of log bounce over log learning rate, mean over the cells of a kind."""

    def rule(sources: Sources) -> Evidence:
        cells = [cell.name for cell in matching(sources.grid, needs)]
        if not cells or not sources.grid.tuning.sweep:
            return ABSENT
        slopes = _by_cell(sources, cells, lambda tried: bounce_slope(tried, sources))
        values = {cell: [Limits(slope, slope) for slope in slopes[cell]] for cell in cells}
        return _tuned(sources, tuple(cells), values, "cells")

    return rule


def _tuned(
    sources: Sources, cells: Sequence[str], values: Mapping[str, Sequence[Limits]], block: str, note: str = ""
) -> Evidence:
    if any(math.isnan(end) for of_block in values.values() for limits in of_block for end in limits):
        return Evidence(tuple(cells), unclear="the tuning of its cells is not finished, or has too few rates that work")
    reason = "one tuning draw of one cell has no noise to be seen; raise tuning.repeats"
    return evidence_of(sources, cells, [over_draws("mean", values, block)], reason, note)


def _by_cell(sources: Sources, cells: Iterable[str], measure: Callable[[list[RunResult]], T]) -> dict[str, list[T]]:
    """A measure of the rates tried, at each tuning draw of each cell."""
    draws = range(sources.grid.tuning.repeats)
    return {cell: [measure(sources.tried_rates(cell, repeat)) for repeat in draws] for cell in cells}


def _not_known(sources: Sources, fails: Mapping[str, Sequence[Limits]]) -> str:
    names = [cell for cell, limits in fails.items() if any(math.isinf(draw.high) for draw in limits)]
    said = [f"no tried rate failed in {', '.join(names)}"] if names else []
    if math.isnan(sources.zero_filled):
        said.append("the SSIM of zero-filled images is not known, so that only diverged runs count as failed")
    return "; ".join(said)
