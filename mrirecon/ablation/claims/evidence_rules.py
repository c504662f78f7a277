"""The rules of the claims: each turns a study's cells into evidence. The claims and their source: `ledger`."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import TypeVar

import numpy as np

from mrirecon.ablation.claims.evidence import (
    ABSENT,
    BATCH,
    GROUPS,
    NORM,
    POSITION,
    Evidence,
    Limits,
    Needs,
    Pair,
    Rule,
    Sources,
    cells_of,
    evidence_of,
    exact,
    matching,
    not_reran,
    of_sample,
    over_draws,
    pairs,
    rest,
)
from mrirecon.ablation.claims.measures import best_rate, bounce_slope, failing_rate, state_copies, trials_needed
from mrirecon.ablation.study.records import RunResult
from mrirecon.evaluation.stats import MIN_SEEDS, Side, sample

Weights = Mapping[str, float]  # cell -> weight in a sum
RunRatio = Callable[[RunResult, RunResult, Sources], float]
BATCH_NORM: Needs = {"model.norm": "batch"}
GROUP_NORM: Needs = {"model.norm": "group"}


def score_difference(first: Needs, second: Needs, may_differ: Sequence[str]) -> Rule:
    """Test SSIM of the first cells minus the second, mean over all matched pairs."""

    def rule(sources: Sources) -> Evidence:
        found = pairs(sources.grid, first, second, may_differ)
        return _scored(sources, {"mean": _mean_difference(found)}, found, _spread(sources, found))

    return rule


def each_difference(first: Needs, second: Needs, may_differ: Sequence[str]) -> Rule:
    """Test SSIM of the first cell minus the second, of every matched pair: a mean would hide the exceptions."""

    def rule(sources: Sources) -> Evidence:
        found = pairs(sources.grid, first, second, may_differ)
        named = {f"{pair.first} - {pair.second}": _mean_difference([pair]) for pair in found}
        return _scored(sources, named, found)

    return rule


def position_differences(sources: Sources) -> Evidence:
    """Test SSIM between every two positions of the norm: claim N1 of the ledger (LeCun & Canziani 2020)."""
    named, all_pairs = {}, []
    for one, other in combinations(("before", "between", "after"), 2):
        found = pairs(sources.grid, {POSITION[0]: one}, {POSITION[0]: other}, POSITION)
        if found:
            named[f"{one} - {other}"] = _mean_difference(found)
            all_pairs += found
    return _scored(sources, named, all_pairs)


def other_group_sizes(size: int) -> Rule:
    """Test SSIM of group norm with every other group size minus that with `size` channels per group.

    Wu & He (2018, table 3) compare sizes so.
    """
    wanted = {**GROUP_NORM, "model.channels_per_group": size, "model.n_groups": 0}

    def rule(sources: Sources) -> Evidence:
        by_size: dict[str, list[Pair]] = defaultdict(list)
        all_pairs = pairs(sources.grid, GROUP_NORM, wanted, GROUPS)
        for pair in all_pairs:
            settings = sources.grid.cell(pair.first).settings
            groups, channels = settings["model.n_groups"], settings["model.channels_per_group"]
            by_size[f"{groups} groups" if groups else f"{channels} channels" if channels else "default"].append(pair)
        named = {f"{other} - {size} channels": _mean_difference(of) for other, of in by_size.items()}
        return _scored(sources, named, all_pairs)

    return rule


def growth_to_small_batches(sources: Sources) -> Evidence:
    """Return the lead of group norm over batch norm in the smallest batch, less that in the largest.

    Least squares line of the difference in test SSIM over log2 of the batch size, mean over cells that differ in
    other factors. Wu & He (2018) report such a growth.
    """
    found = pairs(sources.grid, GROUP_NORM, BATCH_NORM, NORM)
    lines: dict[str, list[Pair]] = defaultdict(list)
    for pair in found:
        lines[repr(sorted(map(repr, rest(sources.grid, sources.grid.cell(pair.first), BATCH).items())))].append(pair)
    weights = [line for line in (_line(sources, of_line) for of_line in lines.values()) if line]
    if not weights:
        return ABSENT
    return _scored(sources, {"growth": _sum((w, 1 / len(weights)) for w in weights)}, found)


def run_ratio(first: Needs, second: Needs, may_differ: Sequence[str], measure: RunRatio) -> Rule:
    """Natural logarithm of a ratio of paired reruns, mean over all matched pairs, over seeds.

    The log response ratio of Hedges, Gurevitch and Curtis (1999, Ecology 80:1150).
    """

    def rule(sources: Sources) -> Evidence:
        found = pairs(sources.grid, first, second, may_differ)
        cells = cells_of(found)
        if not found:
            return ABSENT
        if reason := not_reran(sources, cells):
            return Evidence(cells, unclear=reason)
        seeds = sources.shared_seeds(cells)
        ran = {cell: sources.reruns(cell) for cell in cells}
        d = np.array([[measure(ran[a][seed], ran[b][seed], sources) for a, b in found] for seed in seeds])
        if not np.isfinite(d).all():
            return Evidence(cells, unclear="the curves of the reruns are too short, or reach too little, for it")
        draws = sources.scores.draws
        side = Side(d.mean(axis=1, keepdims=True), seeds, 1.0, [draws[seed] for seed in seeds] if draws else None)
        made = sample("mean", [side], None)
        return evidence_of(sources, cells, [None if made.refused else of_sample(made)], made.refused)

    return rule


def state_differences(kinds: Sequence[Needs], may_differ: Sequence[str]) -> Rule:
    """Optimizer state of each kind minus that of the one before it, in copies of the parameters: exact.

    Claim A10 of the ledger (LeCun & Canziani 2020).
    """

    def rule(sources: Sources) -> Evidence:
        steps = [pairs(sources.grid, more, less, may_differ) for less, more in pairwise(kinds)]
        found = [pair for step in steps for pair in step]
        if not steps[-1]:
            return ABSENT
        copies, cells = state_copies(sources.study), cells_of(found)
        if any(cell not in copies for cell in cells):
            return Evidence(cells, unclear="not all of the cells have run")
        estimates = [exact(f"{a} - {b}", copies[a] - copies[b]) for a, b in found]
        needed = {c["cell"]: trials_needed(c) for c in sources.study["cells"] if c["cell"] in cells}
        said = [f"{cell} {k}" for cell, k in needed.items() if k is not None]
        return Evidence(
            cells,
            tuple(estimates),
            f"trials until the expected best loss is within 1 % of the best: {', '.join(said)}" if said else "",
        )

    return rule


def _spread(sources: Sources, found: Sequence[Pair]) -> str:
    """Return the range of the differences of single pairs of cells, which their mean hides; empty with one pair."""
    values = sources.scores.values
    if len(found) < 2 or any(cell not in values for cell in cells_of(found)):
        return ""
    apart = [values[a] - values[b] for a, b in found]
    if not all(np.isfinite(d).any() for d in apart):
        return ""
    means = [float(np.nanmean(d)) for d in apart]
    return f"{len(found)} pairs of cells, from {min(means):+.4f} to {max(means):+.4f}"


def _scored(sources: Sources, named: Mapping[str, Weights], found: Sequence[Pair], note: str = "") -> Evidence:
    """Estimate weighted sums of test scores, as the comparisons of the study do."""
    cells = cells_of(found)
    if not found:
        return ABSENT
    if reason := not_reran(sources, cells, by_score=True):
        return Evidence(cells, unclear=reason)
    scores = sources.scores
    if not scores.volumes or any(cell not in scores.values for cell in cells):
        return Evidence(cells, unclear="the reruns have no test scores in common")
    made = [
        sample(name, [scores.side(cell, weight) for cell, weight in weights.items()], scores.patients)
        for name, weights in named.items()
    ]
    reason = next((one.refused for one in made if one.refused), "")
    return evidence_of(sources, cells, [None if one.refused else of_sample(one) for one in made], reason, note)


def _line(sources: Sources, found: Sequence[Pair]) -> Weights | None:
    """Weights of the fitted growth from the largest batch to the smallest; None with one size."""
    sizes = [math.log2(sources.grid.cell(pair.first).settings[BATCH[0]]) for pair in found]
    x = np.array(sizes) - np.mean(sizes)
    if np.ptp(x) == 0:
        return None
    slopes = -x / (x**2).sum() * np.ptp(x)
    return _sum((_mean_difference([pair]), float(slope)) for pair, slope in zip(found, slopes, strict=True))


def _mean_difference(found: Sequence[Pair]) -> Weights:
    return _sum(({pair.first: 1.0, pair.second: -1.0}, 1 / len(found)) for pair in found)


def _sum(parts: Iterable[tuple[Weights, float]]) -> Weights:
    total: dict[str, float] = defaultdict(float)
    for weights, factor in parts:
        for cell, weight in weights.items():
            total[cell] += factor * weight
    return dict(total)


T = TypeVar("T")


def rate_ratio(first: Needs, second: Needs, may_differ: Sequence[str]) -> Rule:
    """Natural logarithm of the ratio of the best learning rates, mean over all matched pairs.

    Claims G12 and A6 of the ledger (LeCun & Canziani 2020).
    """

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
        return _tuned(sources, cells, values)

    return rule


def failing_ratio(sources: Sources) -> Evidence:
    """Natural logarithm of the failing rate over the best one, mean over all cells.

    Claim G2 of the ledger (LeCun & Canziani 2020).
    """
    if not sources.grid.tuning.sweep:
        return ABSENT
    cells = [cell.name for cell in sources.grid.cells]
    fails = _by_cell(sources, cells, lambda tried: failing_rate(tried, sources))
    best = _by_cell(sources, cells, best_rate)
    values = {
        cell: [Limits(f.low - b, f.high - b) for f, b in zip(fails[cell], best[cell], strict=True)] for cell in cells
    }
    return _tuned(sources, tuple(cells), values, _not_known(sources, fails))


def failing_gain(first: Needs, second: Needs, may_differ: Sequence[str]) -> Rule:
    """Natural logarithm of the first cells' failing rate over the second's; mean over the cells of one second cell.

    Claim N7 of the ledger (LeCun & Canziani 2020).
    """

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
        return _tuned(sources, cells_of(found), values, _not_known(sources, fails))

    return rule


def bounce_over_rate(needs: Needs) -> Rule:
    """Slope of log bounce over log learning rate, mean over the cells of a kind.

    Claim G16b of the ledger (LeCun & Canziani 2020).
    """

    def rule(sources: Sources) -> Evidence:
        cells = [cell.name for cell in matching(sources.grid, needs)]
        if not cells or not sources.grid.tuning.sweep:
            return ABSENT
        slopes = _by_cell(sources, cells, lambda tried: bounce_slope(tried, sources))
        values = {cell: [Limits(slope, slope) for slope in slopes[cell]] for cell in cells}
        return _tuned(sources, tuple(cells), values)

    return rule


def _tuned(sources: Sources, cells: Sequence[str], values: Mapping[str, Sequence[Limits]], note: str = "") -> Evidence:
    if any(math.isnan(end) for of_block in values.values() for limits in of_block for end in limits):
        return Evidence(tuple(cells), unclear="the tuning of its cells is not finished, or has too few rates that work")
    reason = (
        f"{sources.grid.tuning.repeats} tuning draws say too little about others, and cells are no draws; "
        f"set tuning.repeats to {MIN_SEEDS} or more"
    )
    return evidence_of(sources, cells, [over_draws("mean", values)], reason, note)


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
