"""What is compared in a study: weighted sums of cells, in families."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mrirecon.ablation.study.grid import Grid


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
        made.append(Family("all pairs of cells", tuple(_all_pairs(grid))))
    return [family for family in made if family.contrasts]


def _against_reference(grid: Grid) -> Iterator[Contrast]:
    for cell in grid.cells:
        if cell.name != grid.reference:
            weights = {cell.name: 1.0, grid.reference: -1.0}
            yield Contrast(f"{cell.name} - {grid.reference}", cell.name, grid.reference, weights)


def _all_pairs(grid: Grid) -> Iterator[Contrast]:
    for first, second in combinations([cell.name for cell in grid.cells], 2):
        yield Contrast(f"{first} - {second}", first, second, {first: 1.0, second: -1.0})


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
