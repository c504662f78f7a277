"""Simulated studies whose truth is known, and exact powers by enumeration: what the statistics are held against."""

import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from mrirecon.evaluation.stats import BETTER, WORSE, Effect, compare_family, crossed_effect, sign_flip_max_t


class Setting(NamedTuple):
    """A design and the shares of the variance of a difference that seeds, volumes and the rest have."""

    dominated: str
    n_seeds: int
    n_volumes: int
    shares: tuple[float, float, float]

    def __str__(self) -> str:
        seeds, volumes, rest = self.shares
        design = f"{self.n_seeds:2} seeds x {self.n_volumes:2} volumes"
        return f"{design}, {self.dominated:8} (variance {seeds:.2f} seeds, {volumes:.2f} volumes, {rest:.2f} rest)"


DESIGNS = tuple(itertools.product((6, 10), (10, 40)))
SHARES = {"seeds": (0.8, 0.1, 0.1), "volumes": (0.1, 0.8, 0.1), "mixed": (0.45, 0.45, 0.1)}
SETTINGS = tuple(Setting(name, *design, shares) for design in DESIGNS for name, shares in SHARES.items())
RESIDUAL_ONLY = tuple(Setting("residual", *design, (0.0, 0.0, 1.0)) for design in DESIGNS)
SAME_METHOD = tuple(Setting("seeds", *design, (0.5, 0.0, 0.5)) for design in ((6, 10), (10, 40)))
ZERO_ON_AVERAGE = tuple(Setting("mixed", *design, SHARES["mixed"]) for design in ((6, 40), (10, 10)))
N_COMPARISONS = 8
TRUTH = 0.3  # of the simulated differences, in units of their total standard deviation


def scores(rng: np.random.Generator, setting: Setting, n: int) -> np.ndarray:
    """Crossed random effects of variance 1 in all, (n, n_seeds, n_volumes)."""
    seeds, volumes, rest = np.sqrt(setting.shares)
    shape = (n, setting.n_seeds, setting.n_volumes)
    return (
        seeds * rng.standard_normal((n, setting.n_seeds, 1))
        + volumes * rng.standard_normal((n, 1, setting.n_volumes))
        + rest * rng.standard_normal(shape)
    )


def coverage(setting: Setting, n_studies: int, seed: int = 0, level: float = 0.95) -> float:
    """How often the interval holds the true mean difference."""
    studies = TRUTH + scores(np.random.default_rng(seed), setting, n_studies)
    effects = (crossed_effect(d, level) for d in studies)
    return sum(e.low <= TRUTH <= e.high for e in effects) / n_studies


def null_family(rng: np.random.Generator, setting: Setting, n_comparisons: int = N_COMPARISONS) -> np.ndarray:
    """Methods of equal mean, each against the same reference: (n_comparisons, n_seeds, n_volumes)."""
    methods = scores(rng, setting, n_comparisons + 1)
    return methods[1:] - methods[0]


def false_wins(setting: Setting, n_families: int, seed: int = 0) -> float:
    """Share of whole families of equal methods in which any comparison is called BETTER or WORSE."""
    rng = np.random.default_rng(seed)
    patients = [str(i) for i in range(setting.n_volumes)]
    wins = 0
    for _ in range(n_families):
        named = {str(i): d for i, d in enumerate(null_family(rng, setting))}
        compared = compare_family(named, patients, metric="ssim", better="higher", margin=0.1)
        wins += any(c.verdict in (BETTER, WORSE) for c in compared)
    return wins / n_families


def false_flips(setting: Setting, n_families: int, seed: int = 0, alpha: float = 0.05) -> float:
    """Share of families of equal methods in which any adjusted p of the sign flips alone is at most alpha."""
    rng = np.random.default_rng(seed)
    families = (null_family(rng, setting).mean(axis=2) for _ in range(n_families))
    return sum(min(sign_flip_max_t(d).p_family) <= alpha for d in families) / n_families


class Outcomes(NamedTuple):
    """A discrete distribution of one seed's differences: a tuple of whole numbers, one for each comparison."""

    values: tuple[tuple[int, ...], ...]
    weights: tuple[int, ...]  # probabilities, times their sum


ONE = Outcomes(((-2,), (1,), (3,), (4,)), (2, 3, 4, 1))  # asymmetric, mean 1.3
TWO = Outcomes(((-1, -2), (3, 1), (2, -1), (1, 2)), (1, 4, 3, 2))  # two comparisons that share a reference
POWERS = ((ONE, 6), (ONE, 8), (ONE, 10), (TWO, 6), (TWO, 8))


def exact_power(outcomes: Outcomes, n_seeds: int, alpha: Fraction = Fraction(1, 20)) -> float:
    """Chance that the first comparison is found: all possible studies, all flips, in whole numbers.

    The order of the seeds does not matter, so that studies are counted as multisets with their multinomial weight.
    """
    total = sum(outcomes.weights)
    power = Fraction(0)
    for chosen in itertools.combinations_with_replacement(range(len(outcomes.values)), n_seeds):
        counts = Counter(chosen)
        ways = math.factorial(n_seeds) // math.prod(math.factorial(k) for k in counts.values())
        weight = math.prod(outcomes.weights[i] ** k for i, k in counts.items())
        if step_down([outcomes.values[i] for i in chosen])[0] <= alpha:
            power += Fraction(ways * weight, total**n_seeds)
    return float(power)


def step_down(study: list[tuple[int, ...]]) -> list[Fraction]:
    """Westfall and Young's adjusted p values, by the book: (n_seeds) tuples of (n_comparisons) whole numbers."""
    columns = list(zip(*study, strict=True))
    flipped = [[_squared(c, signs) for c in columns] for signs in itertools.product((1, -1), repeat=len(study))]
    observed = flipped[0]
    order = sorted(range(len(columns)), key=lambda j: -observed[j])
    adjusted, floor = [Fraction(0)] * len(columns), Fraction(0)
    for k, j in enumerate(order):
        reached = sum(max(row[i] for i in order[k:]) >= observed[j] for row in flipped)
        floor = max(floor, Fraction(reached, len(flipped)))
        adjusted[j] = floor
    return adjusted


def _squared(column: tuple[int, ...], signs: tuple[int, ...]) -> Fraction:
    """(sum d)^2 / sum d^2: orders columns and flips as the squared t statistic does."""
    norm = sum(x * x for x in column)
    return Fraction(sum(s * x for s, x in zip(signs, column, strict=True)) ** 2, norm) if norm else Fraction(0)


def simulated_power(outcomes: Outcomes, n_seeds: int, n_studies: int, seed: int = 0) -> float:
    """How often our own test finds the first comparison, in studies drawn at random."""
    rng = np.random.default_rng(seed)
    chances = np.array(outcomes.weights) / sum(outcomes.weights)
    drawn = np.array(outcomes.values, dtype=float)[rng.choice(len(chances), size=(n_studies, n_seeds), p=chances)]
    return sum(sign_flip_max_t(study.T).p_family[0] <= 0.05 for study in drawn) / n_studies


def true_effect(setting: Setting, n_seeds: int | None = None) -> Effect:
    """What a study that knew its variances would say of the uncertainty of its mean, with Satterthwaite's formula."""
    n, m = n_seeds or setting.n_seeds, setting.n_volumes
    seeds, volumes, rest = setting.shares
    squares = (rest + m * seeds, rest + n * volumes, rest)  # expected mean squares
    variance = seeds / n + volumes / m + rest / (n * m)
    dof = (n - 1, m - 1, (n - 1) * (m - 1))
    df = (n * m * variance) ** 2 / sum(square**2 / k for square, k in zip(squares, dof, strict=True))
    sds = map(math.sqrt, setting.shares)
    return Effect(0.0, math.nan, math.nan, math.sqrt(variance), df, n, m, *sds, "seeds and volumes")


def found(setting: Setting, difference: float, n_studies: int, seed: int = 0, level: float = 0.95) -> float:
    """How often the interval lies above 0 when the true difference is `difference` above it."""
    studies = difference + scores(np.random.default_rng(seed), setting, n_studies)
    return sum(crossed_effect(d, level).low > 0 for d in studies) / n_studies
