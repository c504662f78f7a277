"""Simulated studies whose truth is known: what the statistics are held against, by the verdicts that reports print."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mrirecon.evaluation.stats import (
    BETTER,
    EQUIVALENT,
    WORSE,
    Judged,
    Side,
    Variances,
    by_draw,
    compare_family,
    half_width,
    judge,
    sample,
)
from mrirecon.evaluation.stats.crossed import nested_parts, paired_parts
from mrirecon.evaluation.stats.verdict import BETTER_BY_LESS, WORSE_BY_LESS

# standard deviations of cell x seed, cell x patient, cell x seed x patient, and of a volume's residual
REGIMES = {"balanced": (0.5, 0.5, 0.5, 0.5), "patients": (0.15, 1.0, 0.3, 0.3), "seeds": (1.0, 0.15, 0.3, 0.3)}
NORMAL, T3, SKEW, VOLUMES = "normal", "t3", "skewed", "1-12 volumes"
DRAWN: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {  # of variance 1
    NORMAL: lambda rng, shape: rng.standard_normal(shape),
    T3: lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    SKEW: lambda rng, shape: rng.standard_exponential(shape) - 1,
    VOLUMES: lambda rng, shape: rng.standard_normal(shape),
}
SEEDS, PATIENTS = (5, 6, 10, 20), (3, 5, 10, 50)
AGAINST_ONE = tuple((i, 0) for i in range(1, 9))  # eight methods and their reference
ALL_PAIRS = tuple(itertools.combinations(range(9), 2))
MOST_VOLUMES = 12  # of a patient, where they have several: 1 to 12, each number as often
_NUMBERS = 4_000_000  # drawn at once


class Setting(NamedTuple):
    """A design and where its variance comes from."""

    regime: str
    drawn: str
    n_seeds: int
    n_patients: int

    def __str__(self) -> str:
        return f"{self.regime:8} {self.drawn:12} {self.n_seeds:2} seeds x {self.n_patients:2} patients"

    @property
    def sds(self) -> Variances:
        """True standard deviations of a paired difference of two methods, volumes of a patient averaged."""
        seeds, patients, three_way, residual = (math.sqrt(2) * sd for sd in REGIMES[self.regime])
        if self.drawn == VOLUMES:
            residual *= math.sqrt(sum(1 / n for n in range(1, MOST_VOLUMES + 1)) / MOST_VOLUMES)
        return Variances(seeds, patients, math.hypot(three_way, residual))

    @property
    def se(self) -> float:
        """True standard error of a mean paired difference."""
        s, p, r = np.square(self.sds)
        return math.sqrt(s / self.n_seeds + p / self.n_patients + r / (self.n_seeds * self.n_patients))


def settings(drawn: Sequence[str] = tuple(DRAWN)) -> Iterator[Setting]:
    """All combinations."""
    yield from itertools.starmap(Setting, itertools.product(REGIMES, drawn, SEEDS, PATIENTS))


def methods(rng: np.random.Generator, setting: Setting, n: int, n_methods: int = 9) -> np.ndarray:
    """Scores of equal methods, (n, n_methods, n_seeds, n_patients): crossed random effects, means over volumes.

    What is the same in all methods, such as an easy patient, cancels in differences and is left out.
    """
    draw, (of_seed, of_patient, three_way, residual) = DRAWN[setting.drawn], REGIMES[setting.regime]
    shape = (n, n_methods, setting.n_seeds, setting.n_patients)
    volumes = (
        rng.integers(1, MOST_VOLUMES + 1, (n, 1, 1, setting.n_patients)) if setting.drawn == VOLUMES else np.ones(1)
    )
    return (
        of_seed * draw(rng, (*shape[:3], 1))
        + of_patient * draw(rng, (n, n_methods, 1, setting.n_patients))
        + three_way * draw(rng, shape)
        + residual * draw(rng, shape) / np.sqrt(volumes)
    )


def in_parts(n: int, numbers: int) -> Iterator[int]:
    """Cut `n` families of so many numbers each into parts that fit into memory."""
    size = max(1, _NUMBERS // numbers)
    yield from (min(size, n - start) for start in range(0, n, size))


def differences(scores: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """(n, n_methods, n_seeds, n_patients) to (n, n_pairs, n_seeds, n_patients)."""
    first, second = np.array(pairs).T
    return scores[:, first] - scores[:, second]


def claims_a_sign(judged: Judged) -> np.ndarray:
    """Where a verdict says that one is better, by however little."""
    return np.isin(judged.verdict, (BETTER, WORSE)) | np.isin(judged.size, (BETTER_BY_LESS, WORSE_BY_LESS))


class Null(NamedTuple):
    """What families of equal methods got, as shares."""

    false_findings: float  # of families with any verdict that one is better
    coverage: float  # of single comparisons


def equal_methods(
    setting: Setting, pairs: Sequence[tuple[int, int]], n_families: int, seed: int, margin: float | None = None
) -> Null:
    """Verdicts on families of equal methods, and the coverage of the interval of one comparison alone."""
    rng = np.random.default_rng(seed)
    false = covered = 0
    for n in in_parts(n_families, len(pairs) * setting.n_seeds * setting.n_patients):
        parts = paired_parts(differences(methods(rng, setting, n), pairs))
        false += int(claims_a_sign(judge(parts, "higher", margin, len(pairs))).any(axis=1).sum())
        covered += int((np.abs(parts.mean) <= half_width(parts, 0.05)).sum())
    return Null(false / n_families, covered / (n_families * len(pairs)))


def unmatched(
    setting: Setting, n_reference: int, n_families: int, seed: int, pairs: Sequence[tuple[int, int]] = AGAINST_ONE
) -> Null:
    """The same where seeds do not match: the reference (method 0) has `n_reference` runs, the others their own."""
    rng = np.random.default_rng(seed)
    false = covered = 0
    for n in in_parts(n_families, 9 * 20 * setting.n_patients):
        reference = methods(rng, setting._replace(n_seeds=n_reference), n, 1)
        others = methods(rng, setting, n, 8)
        runs = [reference[:, 0], *(others[:, i] for i in range(8))]
        found = [nested_parts((runs[a], runs[b]), (1, -1)) for a, b in pairs]
        judged = [judge(parts, "higher", None, len(pairs)) for parts in found]
        false += int(np.any([claims_a_sign(one) for one in judged], axis=0).sum())
        covered += int(sum((np.abs(parts.mean) <= half_width(parts, 0.05)).sum() for parts in found))
    return Null(false / n_families, covered / (n_families * len(pairs)))


def tuned_in_draws(setting: Setting, per_draw: int, sd_draw: float, n_families: int, seed: int) -> Null:
    """Families of eight where `per_draw` seeds share a tuning draw; the setting's seeds are the draws."""
    rng = np.random.default_rng(seed)
    false = covered = 0
    labels = np.repeat(np.arange(setting.n_seeds), per_draw)
    for n in in_parts(n_families, 9 * per_draw * setting.n_seeds * setting.n_patients):
        scores = methods(rng, setting._replace(n_seeds=len(labels)), n)
        luck = sd_draw * DRAWN[setting.drawn](rng, (n, 9, setting.n_seeds, 1))
        scores = scores + luck[:, :, labels]
        averaged = np.moveaxis(by_draw(np.moveaxis(scores, 2, 0).reshape(len(labels), -1), labels), 0, -1)
        tables = np.moveaxis(averaged.reshape(n, 9, setting.n_patients, setting.n_seeds), -1, 2)
        parts = paired_parts(differences(tables, AGAINST_ONE))
        false += int(claims_a_sign(judge(parts, "higher", None, 8)).any(axis=1).sum())
        covered += int((np.abs(parts.mean) <= half_width(parts, 0.05)).sum())
    return Null(false / n_families, covered / (n_families * 8))


def looks(setting: Setting, at: Sequence[int], alphas: Sequence[float], n_families: int, seed: int) -> float:
    """Share of families of eight equal methods with a false finding at any look, each at its own share of alpha."""
    rng = np.random.default_rng(seed)
    false = 0
    for n in in_parts(n_families, 8 * max(at) * setting.n_patients):
        d = differences(methods(rng, setting._replace(n_seeds=max(at)), n), AGAINST_ONE)
        judged = [
            judge(paired_parts(d[:, :, :seeds]), "higher", None, 8, alpha)
            for seeds, alpha in zip(at, alphas, strict=True)
        ]
        false += int(np.any([claims_a_sign(one).any(axis=1) for one in judged], axis=0).sum())
    return false / n_families


def at_a_difference(
    setting: Setting, difference: float, margin: float | None, n_comparisons: int, n_families: int, seed: int
) -> Iterator[Judged]:
    """Verdicts on families of which every comparison has the same true difference."""
    rng = np.random.default_rng(seed)
    for n in in_parts(n_families, n_comparisons * setting.n_seeds * setting.n_patients):
        d = difference + differences(methods(rng, setting, n), AGAINST_ONE[:n_comparisons])
        yield judge(paired_parts(d), "higher", margin, n_comparisons)


def found(setting: Setting, difference: float, n_comparisons: int, n_families: int, seed: int) -> float:
    """How often a comparison of this true difference is called BETTER."""
    judged = at_a_difference(setting, difference, None, n_comparisons, n_families, seed)
    return sum(int((one.verdict == BETTER).sum()) for one in judged) / (n_families * n_comparisons)


def found_by_the_t_test(drawn: str, n: int, n_studies: int, seed: int) -> float:
    """How often Student's one-sided t test finds, in n differences, what it finds in 80 % of normal ones.

    Independent of the package: what a kind of draws does to any interval that rests on their spread.
    """
    from scipy import optimize, stats

    critical = stats.t.ppf(0.975, n - 1)
    wanted = optimize.brentq(lambda d: stats.nct.sf(critical, n - 1, d * math.sqrt(n)) - 0.8, 0, 30)
    a, b = DRAWN[drawn](np.random.default_rng(seed), (2, n_studies, n))
    d = wanted + (a - b) / math.sqrt(2)
    return float((stats.ttest_1samp(d, 0, axis=1).statistic > critical).mean())


def false_equivalence(setting: Setting, margin: float, n_families: int, seed: int) -> float:
    """Share of families of eight, all truly one margin apart, with a verdict EQUIVALENT."""
    judged = at_a_difference(setting, margin, margin, 8, n_families, seed)
    return sum(int((one.verdict == EQUIVALENT).any(axis=1).sum()) for one in judged) / n_families


def said(scores: np.ndarray, margin, better: str = "higher") -> list:
    """What the reports' own functions say of one family, scores (9, n_seeds, n_patients)."""
    patients = [f"p{j:03d}" for j in range(scores.shape[2])]
    seeds = range(scores.shape[1])
    samples = [
        sample(f"{a} - {b}", [Side(scores[a], seeds), Side(scores[b], seeds, -1)], patients, better)
        for a, b in AGAINST_ONE
    ]
    return compare_family(samples, metric="ssim", better=better, margin=margin)


def widths_without_a_run(setting: Setting, n_studies: int, seed: int) -> tuple[float, float]:
    """Mean width of a comparison's interval with all runs, and after the second method lost its last one."""
    rng = np.random.default_rng(seed)
    patients, seeds = [str(j) for j in range(setting.n_patients)], list(range(setting.n_seeds))
    widths = []
    for a, b in methods(rng, setting, n_studies, 2):
        both = [
            sample("", [Side(a, seeds), Side(b[:kept], seeds[:kept], -1)], patients)
            for kept in (setting.n_seeds, setting.n_seeds - 1)
        ]
        widths.append([2 * float(half_width(one.parts, 0.05)) for one in both])
    full, lost = np.mean(widths, axis=0)
    return float(full), float(lost)
