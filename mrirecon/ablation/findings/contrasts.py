"""Decide the contrasts of a family together, and tell the result in words.

A contrast is a weighted sum of cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from mrirecon.ablation.findings.rerun_scores import RerunScores
from mrirecon.ablation.study.grid import Grid
from mrirecon.errors import InputError
from mrirecon.evaluation.stats import (
    BETTER,
    EQUIVALENT,
    MIN_PATIENTS,
    NO_VERDICT,
    WORSE,
    Comparison,
    Margin,
    Sample,
    compare_family,
    in_words,
    sample,
)
from mrirecon.evaluation.stats.crossed import SEEDS
from mrirecon.tables.metrics import label_of


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells whose weights add up to 0."""

    name: str
    first: str  # what has positive weights, in words
    second: str  # what has negative ones
    weights: dict[str, float]  # cell -> weight, none of them 0

    def of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The sum over cells; arrays of any one shape, such as (n_seeds, n_volumes)."""
        parts = [weight * values[cell] for cell, weight in self.weights.items()]
        return np.sum(parts, axis=0)


@dataclass(frozen=True)
class Family:
    """Contrasts that are tested together."""

    name: str
    contrasts: tuple[Contrast, ...]
    is_primary: bool = False  # the one that the study is about


def families(grid: Grid) -> list[Family]:
    """Every cell against the reference, the primary family; the main effects of all factors; the interactions of every
    two factors; every two cells, where the grid asks for it.

    Main effects and interactions hold a level against the level of the reference and average over the levels of the
    other factors (factorial design; Fisher 1935, The Design of Experiments, chapter VI). A family that would repeat
    another is left out: a study of one factor has main effects that are its cells, and no interactions.
    """
    made = [Family(f"cells against {grid.reference}", tuple(_against_reference(grid)), is_primary=True)]
    factors = [factor for factor, levels in grid.factors.items() if len(levels) > 1]
    if len(factors) > 1:
        main = [contrast for factor in factors for contrast in _main_effects(grid, factor)]
        crossed = [c for first, second in combinations(factors, 2) for c in _interactions(grid, first, second)]
        made += [Family("main effects", tuple(main)), Family("interactions", tuple(crossed))]
    if grid.all_pairs:
        pairs = combinations([cell.name for cell in grid.cells], 2)
        contrasts = tuple(Contrast(f"{one} - {other}", one, other, {one: 1.0, other: -1.0}) for one, other in pairs)
        made.append(Family("all pairs of cells", contrasts))
    return [family for family in made if family.contrasts]


def _against_reference(grid: Grid) -> Iterator[Contrast]:
    for cell in grid.cells:
        if cell.name != grid.reference:
            weights = {cell.name: 1.0, grid.reference: -1.0}
            yield Contrast(f"{cell.name} - {grid.reference}", cell.name, grid.reference, weights)


def _main_effects(grid: Grid, factor: str) -> Iterator[Contrast]:
    base = grid.cell(grid.reference).levels[factor]
    for label in grid.factors[factor]:
        if label != base:
            weights = _difference(_mean_of(grid, {factor: label}), _mean_of(grid, {factor: base}))
            yield Contrast(f"{factor}: {label} - {base}", f"{factor} {label}", f"{factor} {base}", weights)


def _interactions(grid: Grid, one: str, other: str) -> Iterator[Contrast]:
    """Yield differences of differences: what a step of one factor gains at a level of the other, against the base."""
    base = grid.cell(grid.reference).levels
    for first in grid.factors[one]:
        for second in grid.factors[other]:
            if first == base[one] or second == base[other]:
                continue
            gain = _difference(
                _mean_of(grid, {one: first, other: second}), _mean_of(grid, {one: base[one], other: second})
            )
            plain = _difference(
                _mean_of(grid, {one: first, other: base[other]}), _mean_of(grid, {one: base[one], other: base[other]})
            )
            yield Contrast(
                f"{one} x {other}: ({first} - {base[one]}) at {second} - at {base[other]}",
                f"the step from {base[one]} to {first} at {other} {second}",
                f"the same step at {other} {base[other]}",
                _difference(gain, plain),
            )


def _mean_of(grid: Grid, levels: Mapping[str, str]) -> dict[str, float]:
    """The mean of the cells at some levels."""
    cells = [cell for cell in grid.cells if all(cell.levels[factor] == label for factor, label in levels.items())]
    return {cell.name: 1 / len(cells) for cell in cells}


def _difference(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    names = [*first, *(name for name in second if name not in first)]
    return {name: first.get(name, 0.0) - second.get(name, 0.0) for name in names}


ALPHA = 0.05


def decide(
    family: Family,
    scores: Sequence[RerunScores],
    margin: Margin | None,
    conditional: str,
    *,
    alpha: float = ALPHA,
    refused: str = "",
) -> dict[str, Any]:
    """Decide a family: each of its contrasts at each acceleration, one simultaneous interval for all.

    The cells of a contrast are compared on the seeds that they share, or where these are fewer than 5 each on its own
    (see `sample`), so that a missing rerun changes no other comparison. The number of comparisons is that of the plan.

    Args:
        family: The contrasts.
        scores: Of the reruns, one for each acceleration.
        margin: Of equivalence; None: equivalence is not tested.
        conditional: What every verdict depends on, in words; may be empty.
        alpha: Of the family.
        refused: Why there are no verdicts at all; empty: there are.

    Returns:
        `name`; `is_primary`; `alpha`; `n_seeds` of the comparison that has fewest; `note`; `refused`: why there are no
        verdicts at all, else empty; `comparisons`: each a `Comparison` as a dict with `words`, `first`, `second`,
        `cells` and `at`, the acceleration.
    """
    wanted = [(contrast, of_one) for of_one in scores for contrast in family.contrasts]
    sampled = [(pair, _sampled(*pair)) for pair in wanted]
    missing = [_name(*pair) for pair, one in sampled if one is None]
    found = [(pair, one) for pair, one in sampled if one is not None]
    made: list[Comparison] = []
    if found:
        made = compare_family(
            [one for _, one in found],
            metric=scores[0].metric,
            better=scores[0].better,
            margin=margin,
            alpha=alpha,
            n_comparisons=len(wanted),
        )
    made = [_withheld(one, *pair, refused) for one, (pair, _) in zip(made, found, strict=True)]
    reasons = {one.refused for one in made}
    return {
        "name": family.name,
        "is_primary": family.is_primary,
        "alpha": alpha,
        "n_seeds": min((one.n_seeds for one in made), default=0),
        "note": _about(family, made, missing, alpha),
        "refused": "" if "" in reasons else "; ".join(sorted(reasons)),
        "comparisons": [_plain(one, *pair, conditional) for one, (pair, _) in zip(made, found, strict=True)],
    }


def _sampled(contrast: Contrast, scores: RerunScores) -> Sample | None:
    """Return the sample of a contrast in the reruns; None where there is too little for an interval."""
    if any(cell not in scores.values or not scores.present(cell).any() for cell in contrast.weights):
        return None
    sides = [scores.side(cell, weight) for cell, weight in contrast.weights.items()]
    try:
        return sample(_name(contrast, scores), sides, scores.patients, scores.better)
    except InputError:  # one run of each and one patient
        return None


def _name(contrast: Contrast, scores: RerunScores) -> str:
    return f"{contrast.name} at {scores.at}" if scores.at else contrast.name


def _withheld(made: Comparison, contrast: Contrast, scores: RerunScores, refused: str) -> Comparison:
    """Withhold a verdict in favour of a cell of which only the runs that did not diverge are scored."""
    survivors = [contrast.weights[cell] for cell in scores.survivors(contrast.weights)]
    flattering = {EQUIVALENT} if survivors else set()
    flattering |= {BETTER} if any(weight > 0 for weight in survivors) else set()
    flattering |= {WORSE} if any(weight < 0 for weight in survivors) else set()
    if made.verdict in flattering:
        refused = "what is left of a cell that diverged are its better runs"
    return replace(made, verdict=NO_VERDICT, size="", designs=(), refused=refused) if refused else made


def _plain(made: Comparison, contrast: Contrast, scores: RerunScores, conditional: str) -> dict[str, Any]:
    at = f" at {scores.at}" if scores.at else ""
    words = [in_words(made, f"{contrast.first}{at}", f"{contrast.second}{at}").removesuffix(".")]
    if failed := [f"{cell} {len(seeds)}" for cell in contrast.weights if (seeds := scores.diverged.get(cell))]:
        treated = "left out" if scores.are_excluded else "scored as the zero-filled image"
        words.append(f"diverged reruns ({', '.join(failed)}) are {treated}")
    words += [conditional] if conditional else []
    return {
        **asdict(made),
        "words": "; ".join(words) + ".",
        "first": contrast.first,
        "second": contrast.second,
        "cells": list(contrast.weights),
        "at": scores.at,
    }


def _about(family: Family, made: Sequence[Comparison], missing: Sequence[str], alpha: float) -> str:
    """The note of a family: its place, what its intervals hold for, what is missing."""
    if not made:
        notes = ["Nothing to compare"]
    else:
        n, level = made[0].n_comparisons, f"{100 * (1 - alpha):.3g} %"
        role = "The primary family" if family.is_primary else f"A secondary family, at its own {100 * alpha:.3g} %"
        several = f", one {level} level for all of its {n} intervals" if n > 1 else ""
        notes = [f"{role}: {n} comparison{'s' * (n != 1)} of {label_of(made[0].metric)}{several}"]
        if made[0].over != SEEDS and made[0].n_patients < MIN_PATIENTS:
            notes.append(f"few patients ({made[0].n_patients}), so wide intervals")
    if missing:
        notes.append(f"too few reruns to compare {', '.join(missing)}")
    return "; ".join(notes) + "."
