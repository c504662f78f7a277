"""Compare methods in pairs, one pair or a whole family: effect, intervals, tests, verdict, and all of it in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mrirecon.errors import InputError
from mrirecon.evaluation.pairing import PAIRED_SEEDS, SEED_MEANS, SINGLE_RUNS
from mrirecon.evaluation.stats.crossed import by_patient, crossed_bootstrap, crossed_effect, differences
from mrirecon.evaluation.stats.flips import sign_flip_max_t, smallest_p
from mrirecon.evaluation.stats.power import MAX_SEEDS, minimum_detectable_effect, probability_of_superiority, tost_p
from mrirecon.evaluation.stats.verdict import (
    BETTER,
    EQUIVALENT,
    HIGHER,
    INCONCLUSIVE,
    LOWER,
    WORSE,
    better_is,
    decide,
    seeds_to_settle,
)
from mrirecon.tables.metrics import label_of, unit_of


@dataclass(frozen=True)
class Comparison:
    """First method minus second, in units of the metric, as it stands in its family."""

    name: str
    metric: str
    better: str  # "higher" or "lower": which values are better
    effect: float  # mean over seeds and patients, each patient's volumes averaged first
    low: float  # t interval of this comparison alone, level 1 - alpha
    high: float
    low_family: float  # the same at level 1 - alpha / n_comparisons
    high_family: float
    bootstrap_low: float  # crossed bootstrap, level 1 - alpha
    bootstrap_high: float
    df: float
    n_seeds: int
    n_volumes: int
    n_patients: int
    n_comparisons: int  # of the family
    alpha: float
    p: float  # sign flips over seeds; over patients if there is one seed
    p_family: float
    superiority: float  # share of seeds (of patients if there is one seed) at which the first is better
    margin: float | None  # differences within it count as none
    tost_p: float | None  # of equivalence within the margin
    mde: float  # true difference for which the family's interval excludes 0 with a power of 80 %
    seeds_needed: int | None  # would settle an inconclusive comparison; None: decided, or more seeds alone cannot
    verdict: str  # on the first: BETTER, WORSE, EQUIVALENT or INCONCLUSIVE
    generalizes: str  # "seeds and volumes", "seeds" or "volumes": what interval and verdict speak about


def compare_family(
    named: Mapping[str, np.ndarray],
    patients: Sequence[str],
    *,
    metric: str,
    better: str,
    margin: float | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> list[Comparison]:
    """Compare pairs of methods so that the chance of one or more false findings in the family stays below `alpha`.

    Verdict: EQUIVALENT if the equivalence test says so; else BETTER or WORSE if the effect is no smaller than the
    minimum detectable one, the adjusted p is at most `alpha`, and both the family's interval and the bootstrap
    interval exclude 0; else INCONCLUSIVE. The equivalence test is not adjusted for the family.

    t intervals: `crossed_effect` (Satterthwaite 1946), those of the family at Bonferroni's level. Bootstrap intervals:
    `crossed_bootstrap` (Owen 2007). p: `sign_flip_max_t` (Westfall and Young 1993). Equivalence: `tost_p` (Schuirmann
    1987).

    Args:
        named: First minus second of each pair, (n_seeds, n_volumes), the same seeds and volumes in all.
        patients: Of each volume.
        metric: Its name, for the words.
        better: "higher" or "lower": which values are better.
        margin: Of equivalence, above 0, in units of the metric; None: equivalence is not tested.
        alpha: Allowed chance of one or more false findings in the family.
        seed: Seed of the resampling.

    Returns:
        One comparison for each pair, in the order given.

    Raises:
        InputError: An empty family, tables that do not fit each other, values that are not finite, one seed and fewer
            than 5 patients, or an impossible direction, margin or alpha.
    """
    tables = {name: _table(name, d, patients) for name, d in named.items()}
    if len({table.shape for table in tables.values()}) != 1:
        seeds = ", ".join(f"{name} {len(table)}" for name, table in tables.items()) or "none"
        raise InputError(f"a family with these seeds: {seeds}; give one or more comparisons at equal seeds")
    family = _Family(metric, better, margin, alpha, len(tables), len(patients), seed)
    flips = sign_flip_max_t([_signed(table) for table in tables.values()], seed)
    return [
        family.compare(name, table, p, p_family)
        for (name, table), p, p_family in zip(tables.items(), flips.p, flips.p_family, strict=True)
    ]


def paired_comparison(
    a: np.ndarray,
    b: np.ndarray,
    patients: Sequence[str],
    *,
    metric: str = "ssim",
    better: str | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    name: str = "",
) -> Comparison:
    """Compare one pair of methods, `a` minus `b`: a family of one, see `compare_family`.

    Its p is that of the sign-flip test of Fisher (1935, The Design of Experiments, chapter III).

    Args:
        a: Scores of the first, (n_seeds, n_volumes), or (n_volumes,) of a single run.
        b: Scores of the second at the same seeds and volumes.
        patients: Of each volume.
        metric: Its name.
        better: "higher" or "lower"; None: known from the name of a metric or the loss.
        margin: Of equivalence, in units of the metric; None: equivalence is not tested.
        alpha: Allowed chance of a false finding.
        seed: Seed of the resampling.
        name: Of the pair.

    Raises:
        InputError: As `compare_family`, scores of different shapes, or a metric whose direction is not known.
    """
    first, second = np.atleast_2d(np.asarray(a, dtype=float)), np.atleast_2d(np.asarray(b, dtype=float))
    if first.shape != second.shape:
        raise InputError(f"scores of shapes {first.shape} and {second.shape}; give the same seeds and volumes of both")
    better = better or better_is(metric)
    named = {name: first - second}
    return compare_family(named, patients, metric=metric, better=better, margin=margin, alpha=alpha, seed=seed)[0]


@dataclass(frozen=True)
class _Family:
    """The settings that the comparisons of a family share."""

    metric: str
    better: str
    margin: float | None
    alpha: float
    n_comparisons: int
    n_volumes: int
    seed: int

    def __post_init__(self) -> None:
        if self.better not in (HIGHER, LOWER):
            raise InputError(f"{self.metric}: '{self.better}' values are better; say '{HIGHER}' or '{LOWER}'")
        if self.margin is not None and not self.margin > 0:
            raise InputError(f"equivalence margin {self.margin}; it must be above 0 in units of {self.metric}, or None")
        if not 0 < self.alpha < 0.5:
            raise InputError(f"alpha {self.alpha}; it must be between 0 and 0.5, for example 0.05")

    def compare(self, name: str, table: np.ndarray, p: float, p_family: float) -> Comparison:
        """Make one comparison from differences `(seeds, patients)`, with the p values of its flips.

        The family's interval is at Bonferroni's level, 1 - alpha / n_comparisons (Dunn 1961).
        """
        alpha, level = self.alpha, 1 - self.alpha / self.n_comparisons
        effect = crossed_effect(table, 1 - alpha)
        adjusted, bootstrap = effect.interval(level), crossed_bootstrap(table, 1 - alpha, self.seed)
        equal = None if self.margin is None else tost_p(effect, self.margin)
        mde = minimum_detectable_effect(effect, level)
        verdict = decide(
            effect, (adjusted, bootstrap), better=self.better, p_family=p_family, tost_p=equal, mde=mde, alpha=alpha
        )
        inconclusive = verdict == INCONCLUSIVE
        return Comparison(
            name=name,
            metric=self.metric,
            better=self.better,
            effect=effect.mean,
            low=effect.low,
            high=effect.high,
            low_family=adjusted.low,
            high_family=adjusted.high,
            bootstrap_low=bootstrap.low,
            bootstrap_high=bootstrap.high,
            df=effect.df,
            n_seeds=effect.n_seeds,
            n_volumes=self.n_volumes,
            n_patients=effect.n_units,
            n_comparisons=self.n_comparisons,
            alpha=alpha,
            p=p,
            p_family=p_family,
            superiority=self._superiority(table),
            margin=self.margin,
            tost_p=equal,
            mde=mde,
            seeds_needed=seeds_to_settle(effect, self.margin, level=level, alpha=alpha) if inconclusive else None,
            verdict=verdict,
            generalizes=effect.generalizes,
        )

    def _superiority(self, table: np.ndarray) -> float:
        pairs = _signed(table) if self.better == HIGHER else -_signed(table)
        return probability_of_superiority(pairs, np.zeros_like(pairs))


def _table(name: str, d: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    try:
        return by_patient(differences(d), patients)
    except InputError as error:
        raise InputError(f"{name}: {error}" if name else str(error)) from None


def _signed(table: np.ndarray) -> np.ndarray:
    """Return the values whose signs are flipped, (n,): the mean of each seed, or of a single run of each patient."""
    return table.mean(axis=1) if len(table) > 1 else table[0]


_SAMPLED = {"seeds and volumes": "seeds and patients", "volumes": "patients"}  # what an interval speaks about


class _Runs(NamedTuple):
    """Words of a sentence for the runs of a comparison; an empty `number` stands for that of paired seeds."""

    number: str
    these: str
    they_say: str


_RUNS = {
    PAIRED_SEEDS: _Runs("", "of these single runs", "one run of each says"),
    SINGLE_RUNS: _Runs("one run of each", "of these single runs", "one run of each says"),
    SEED_MEANS: _Runs("means over the seeds of each", "of these trainings", "means over unpaired seeds say"),
}


def in_words(comparison: Comparison, first: str, second: str, pairing: str = PAIRED_SEEDS) -> str:
    """One sentence with effect, interval, p values, numbers of seeds, volumes and patients, and the verdict.

    Args:
        comparison: Of `first` minus `second`.
        first: How the first method is called.
        second: How the second is called.
        pairing: PAIRED_SEEDS, SEED_MEANS or SINGLE_RUNS: what the rows of the comparison are.
    """
    runs = _RUNS[pairing]
    found = f"{_found(comparison, first, second)} ({_evidence(comparison, runs)}): {_verdict(comparison, runs)}"
    return f"{label_of(comparison.metric)}: {found}."


def _found(c: Comparison, first: str, second: str) -> str:
    relation = {
        BETTER: "is better than",
        WORSE: "is worse than",
        EQUIVALENT: "is as good as",
        INCONCLUSIVE: "is not shown to differ from",
    }[c.verdict]
    return f"{first} {relation} {second}, {_with_sign(c.effect)}{unit_of(c.metric)}"


def _evidence(c: Comparison, runs: _Runs) -> str:
    sampled = _SAMPLED.get(c.generalizes, c.generalizes)
    seeds = runs.number or _count(c.n_seeds, "paired seed")
    parts = [
        f"{100 * (1 - c.alpha):g} % interval {_with_sign(c.low)} to {_with_sign(c.high)} over {sampled}",
        f"sign-flip p {_p(c.p)}"
        + (f", in {c.n_comparisons} comparisons p {_p(c.p_family)}" if c.n_comparisons > 1 else ""),
        f"{seeds}, {_count(c.n_volumes, 'volume')} of {_count(c.n_patients, 'patient')}",
    ]
    return "; ".join(parts)


def _verdict(c: Comparison, runs: _Runs) -> str:
    if c.verdict == EQUIVALENT:
        return f"{c.verdict}, within {c.margin:.3g}{unit_of(c.metric)} (equivalence p {_p(c.tost_p or 0.0)})"
    if c.verdict != INCONCLUSIVE:
        caveat = {"seeds": ", on these patients", "volumes": f", {runs.these}"}.get(c.generalizes, "")
        return f"{c.verdict}{caveat}"
    return f"{c.verdict}, minimum detectable difference {c.mde:.3g}{unit_of(c.metric)}; {_settled(c, runs)}"


def _settled(c: Comparison, runs: _Runs) -> str:
    if c.generalizes == "volumes":
        return f"{runs.they_say} nothing about other seeds"
    few = f"{c.n_seeds} seeds cannot go below p = {smallest_p(c.n_seeds):.2g}, "
    start = few if smallest_p(c.n_seeds) > c.alpha else ""
    if c.seeds_needed is None:
        return f"{start}not even {MAX_SEEDS} seeds alone would settle it"
    return f"{start}about {c.seeds_needed} seeds would settle it"


def _with_sign(value: float) -> str:
    return f"{value:+.3g}"


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 0.001 else "< 0.001"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
