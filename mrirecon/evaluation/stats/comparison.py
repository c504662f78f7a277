"""Compare methods in families: what each pair says, simultaneous interval, p, verdict, and all of it in words."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mrirecon.errors import InputError
from mrirecon.evaluation.stats.bootstrap import MIN_PATIENTS
from mrirecon.evaluation.stats.crossed import (
    BOTH,
    PATIENTS,
    SEEDS,
    Parts,
    by_draw,
    by_patient,
    finite_table,
    nested_parts,
    p_value,
    paired_parts,
    sign_flip_p,
    standard_deviations,
)
from mrirecon.evaluation.stats.power import deciding_designs, probability_of_superiority
from mrirecon.evaluation.stats.verdict import (
    BETTER,
    BETTER_BY_LESS,
    EQUIVALENT,
    HIGHER,
    LOWER,
    NO_VERDICT,
    UNDECIDED,
    WORSE,
    WORSE_BY_LESS,
    Margin,
    better_is,
    judge,
    require_margin,
)
from mrirecon.tables.metrics import label_of, unit_of

MIN_SEEDS = 5  # fewer say too little about other seeds for a verdict
PAIRED, OWN_SEEDS, SINGLE, SEEDLESS = "paired seeds", "seeds of each", "one run of each", "methods without seeds"


def require_seeds(n_seeds: int) -> None:
    """Refuse a study that can have no verdict, whatever its differences.

    Raises:
        InputError: Too few seeds.
    """
    if n_seeds < MIN_SEEDS:
        raise InputError(
            f"{n_seeds} paired seed{'s' * (n_seeds != 1)} say too little about others for a verdict; give at least "
            f"{MIN_SEEDS} seeds"
        )


class Side(NamedTuple):
    """The runs of one method in a comparison."""

    scores: np.ndarray  # (n_runs, n_volumes)
    seeds: Sequence[Hashable] | None  # of the runs; None: a method that has none, with one row
    weight: float = 1.0  # in the sum that is compared: 1 of the first, -1 of the second
    draws: Sequence[Hashable] | None = None  # of the tuning, of each run: then they are the units, not the seeds


@dataclass(frozen=True)
class Sample:
    """The difference that the runs of a comparison show and its variances, whatever family it stands in."""

    name: str
    parts: Parts
    pairing: str  # PAIRED, OWN_SEEDS, SINGLE or SEEDLESS
    over: str  # BOTH, SEEDS or PATIENTS: other draws of these are within the interval
    n_seeds: tuple[int, ...]  # paired ones, or of each method; of tuning draws where these are the units
    n_volumes: int
    n_patients: int
    unit: str  # "seed" or "tuning draw"
    refused: str  # why it can have no verdict; empty: it can
    p_these_patients: float | None
    superiority: float | None


@dataclass(frozen=True)
class Comparison:
    """First method minus second, in units of the metric, as it stands in its family."""

    name: str
    metric: str
    better: str  # "higher" or "lower": which values are better
    effect: float  # mean over seeds and patients, each patient's volumes averaged first
    low: float  # simultaneous interval of all comparisons of the family, level 1 - alpha
    high: float
    p: float  # of the same interval: at most alpha exactly where 0 lies outside
    n_comparisons: int  # of the family
    alpha: float
    verdict: str  # on the first: BETTER, WORSE, EQUIVALENT, UNDECIDED or NO VERDICT
    size: str  # what the interval says of the size of the difference; may be empty
    margin: float | None  # differences within it count as none
    margin_source: str
    margin_is_late: bool  # chosen when reading
    designs: tuple[tuple[int, int], ...]  # (seeds, patients) that always decide, of an undecided comparison
    refused: str  # why there is no verdict; else empty
    pairing: str
    over: str
    unit: str
    n_seeds: int  # paired ones, or of the method that has fewest
    runs: str  # all of them in words
    n_volumes: int
    n_patients: int
    p_these_patients: float | None  # sign flips over paired seeds, the patients as they are: a check, no verdict
    superiority: float | None  # probability that a new run of the first beats one of the second on a new patient
    sd_seeds: float  # of paired differences; NaN: not known
    sd_patients: float
    sd_rest: float


def sample(
    name: str, sides: Sequence[Side], patients: Sequence[str] | None, better: str = HIGHER, seed: int = 0
) -> Sample:
    """Estimate the weighted sum of the scores of some methods from their runs; see `half_width` for its interval.

    The methods are compared on the seeds that they share where these are 5 or more; else each has its own, and their
    spread counts for each of them. A method without seeds takes part as it is. One run of a method says nothing of
    its others, so that there is no verdict on the method, nor is there one on fewer than 5 seeds or one patient.

    Args:
        name: Of the comparison.
        sides: The methods, two or more, on the same volumes.
        patients: Of each volume; None: the columns are no sample, and the interval is over seeds alone.
        better: For the probability of superiority: HIGHER or LOWER.
        seed: Of the sign flips that are drawn above 15 seeds.

    Raises:
        InputError: Scores that are not finite, or do not fit each other or the patients.
    """
    counts: tuple[int, ...]
    tables = [by_patient(_checked(name, side.scores), _columns(side, patients)) for side in sides]
    superiority = _superiority(sides, tables, better)
    weights = [side.weight for side in sides]
    seeded = [list(side.seeds) for side in sides if side.seeds is not None]
    shared = [seed for seed in seeded[0] if all(seed in others for others in seeded)] if seeded else []
    on_shared = [_in_units(side, table, shared) for side, table in zip(sides, tables, strict=True)]
    n_shared = max(map(len, on_shared))
    n_patients, n_volumes = tables[0].shape[1], sides[0].scores.shape[1]
    flips = None
    if not seeded or (shared and n_shared >= MIN_SEEDS):
        d = np.sum([w * t for w, t in zip(weights, np.broadcast_arrays(*on_shared), strict=True)], axis=0)
        parts, pairing, counts = paired_parts(d), PAIRED if seeded else SEEDLESS, (n_shared,) if seeded else ()
        flips = sign_flip_p(d.mean(axis=1), seed) if seeded else None
    else:
        own = [_in_units(side, table, side.seeds) for side, table in zip(sides, tables, strict=True)]
        counts = tuple(len(t) for side, t in zip(sides, own, strict=True) if side.seeds is not None)
        parts, pairing = nested_parts(own, weights), SINGLE if min(counts) == 1 else OWN_SEEDS
    over = SEEDS if patients is None or n_patients == 1 else PATIENTS if pairing in (SINGLE, SEEDLESS) else BOTH
    if n_patients == 1 and pairing in (SINGLE, SEEDLESS):
        raise InputError(
            f"{name}: one run of each and one patient say nothing of others; give 2 patients or more".lstrip(": ")
        )
    unit = "tuning draw" if any(side.draws is not None for side in sides) else "seed"
    return Sample(
        name=name,
        parts=parts,
        pairing=pairing,
        over=over,
        n_seeds=counts,
        n_volumes=n_volumes,
        n_patients=n_patients,
        unit=unit,
        refused=_refusal(pairing, counts, unit, None if patients is None else n_patients),
        p_these_patients=flips,
        superiority=None if pairing == SINGLE else superiority,
    )


def _checked(name: str, scores: np.ndarray) -> np.ndarray:
    try:
        return finite_table(scores)
    except InputError as error:
        raise InputError(f"{name}: {error}" if name else str(error)) from None


def _columns(side: Side, patients: Sequence[str] | None) -> Sequence[str]:
    return [""] * np.shape(side.scores)[1] if patients is None else patients


def _in_units(side: Side, table: np.ndarray, seeds: Sequence[Hashable] | None) -> np.ndarray:
    """The rows of some seeds of a side, in their order; the mean of each tuning draw where draws are the units."""
    if side.seeds is None or seeds is None:
        return table
    rows = [list(side.seeds).index(seed) for seed in seeds]
    return table[rows] if side.draws is None or not rows else by_draw(table[rows], [side.draws[i] for i in rows])


def _superiority(sides: Sequence[Side], tables: Sequence[np.ndarray], better: str) -> float | None:
    if [side.weight for side in sides] != [1, -1]:
        return None
    sign = 1 if better == HIGHER else -1
    seeds = [[None] if side.seeds is None else list(side.seeds) for side in sides]
    return probability_of_superiority(sign * tables[0], sign * tables[1], *seeds)


def _refusal(pairing: str, counts: Sequence[int], unit: str, n_patients: int | None) -> str:
    if n_patients == 1:
        return "one patient says nothing about other patients"
    if pairing == SINGLE:
        return "one run says nothing about other seeds of its method"
    if counts and min(counts) < MIN_SEEDS:
        return f"{min(counts)} {unit}s say too little about others: a verdict takes {MIN_SEEDS} of each"
    return ""


def compare_family(
    samples: Sequence[Sample],
    *,
    metric: str,
    better: str,
    margin: Margin | None = None,
    alpha: float = 0.05,
    n_comparisons: int | None = None,
) -> list[Comparison]:
    """Compare pairs of methods so that the chance of one or more wrong intervals in the family stays below `alpha`.

    One interval decides each comparison: see `half_width` for it and `judge` for the verdicts that it gives. Its level
    is 1 - alpha over the number of comparisons (Dunn 1961).

    Args:
        samples: What was compared.
        metric: Its name, for the words.
        better: "higher" or "lower": which values are better.
        margin: Of equivalence; None: none was given, and no difference counts as none.
        alpha: Allowed chance of one or more false findings in the family.
        n_comparisons: Of the family, where it is not the number of samples.

    Returns:
        One comparison for each sample, in the order given.

    Raises:
        InputError: An empty family, or an impossible direction, margin or alpha.
    """
    if better not in (HIGHER, LOWER):
        raise InputError(f"{metric}: '{better}' values are better; say '{HIGHER}' or '{LOWER}'")
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha {alpha}; it must be between 0 and 0.5, for example 0.05")
    if not samples:
        raise InputError("a family without comparisons; give one or more")
    if margin is not None:
        require_margin(margin.value, metric)
    return [_judged(one, metric, better, margin, alpha, n_comparisons or len(samples)) for one in samples]


def _judged(one: Sample, metric: str, better: str, margin: Margin | None, alpha: float, n: int) -> Comparison:
    value = None if margin is None else margin.value
    judged = judge(one.parts, better, value, n, alpha)
    verdict = NO_VERDICT if one.refused else str(judged.verdict)
    designs = () if value is None or verdict != UNDECIDED else deciding_designs(one.parts, value, n, alpha)
    sds = standard_deviations(one.parts) if one.pairing == PAIRED else (np.nan,) * 3
    return Comparison(
        name=one.name,
        metric=metric,
        better=better,
        effect=float(one.parts.mean),
        low=float(judged.low),
        high=float(judged.high),
        p=float(p_value(one.parts, n)),
        n_comparisons=n,
        alpha=alpha,
        verdict=verdict,
        size="" if one.refused else str(judged.size),
        margin=value,
        margin_source="" if margin is None else margin.source,
        margin_is_late=margin is not None and margin.is_late,
        designs=tuple(designs),
        refused=one.refused,
        pairing=one.pairing,
        over=one.over,
        unit=one.unit,
        n_seeds=min(one.n_seeds, default=0),
        runs=_runs(one),
        n_volumes=one.n_volumes,
        n_patients=one.n_patients,
        p_these_patients=one.p_these_patients,
        superiority=one.superiority,
        sd_seeds=sds[0],
        sd_patients=sds[1],
        sd_rest=sds[2],
    )


def _runs(one: Sample) -> str:
    if one.pairing == PAIRED:
        return _count(one.n_seeds[0], f"paired {one.unit}")
    if one.pairing == OWN_SEEDS:
        return f"{' and '.join(map(str, one.n_seeds))} {one.unit}s, not paired"
    if one.pairing == SINGLE and max(one.n_seeds) > 1:
        return f"{' and '.join(map(str, one.n_seeds))} {one.unit}s"
    return one.pairing


def paired_comparison(
    a: np.ndarray,
    b: np.ndarray,
    patients: Sequence[str],
    *,
    metric: str = "ssim",
    better: str | None = None,
    margin: float | Margin | None = None,
    alpha: float = 0.05,
    name: str = "",
) -> Comparison:
    """Compare one pair of methods, `a` minus `b`, at the same seeds: a family of one, see `compare_family`.

    Args:
        a: Scores of the first, (n_seeds, n_volumes), or (n_volumes,) of a single run.
        b: Scores of the second at the same seeds and volumes.
        patients: Of each volume.
        metric: Its name.
        better: "higher" or "lower"; None: known from the name of a metric or the loss.
        margin: Of equivalence, in units of the metric; None: none was given.
        alpha: Allowed chance of a false finding.
        name: Of the pair.

    Raises:
        InputError: As `compare_family`, scores of different shapes, or a metric whose direction is not known.
    """
    first, second = np.atleast_2d(np.asarray(a, dtype=float)), np.atleast_2d(np.asarray(b, dtype=float))
    if first.shape != second.shape:
        raise InputError(f"scores of shapes {first.shape} and {second.shape}; give the same seeds and volumes of both")
    better = better or better_is(metric)
    sides = [Side(first, range(len(first))), Side(second, range(len(second)), -1)]
    given = Margin(margin, "given in the call", is_late=True) if isinstance(margin, int | float) else margin
    found = sample(name, sides, patients, better)
    return compare_family([found], metric=metric, better=better, margin=given, alpha=alpha)[0]


def in_words(comparison: Comparison, first: str, second: str) -> str:
    """One sentence with effect, interval, p, numbers of seeds, volumes and patients, the verdict and its margin.

    Args:
        comparison: Of `first` minus `second`.
        first: How the first method is called.
        second: How the second is called.
    """
    c = comparison
    found = f"{_found(c, first, second)} ({_evidence(c)}): {_verdict(c)}"
    return f"{label_of(c.metric)}: {found}."


def _found(c: Comparison, first: str, second: str) -> str:
    effect = f"{c.effect:+.3g}{unit_of(c.metric)}"
    if c.verdict == NO_VERDICT and c.pairing == SINGLE:
        relation = "equals" if c.effect == 0 else "scored higher than" if c.effect > 0 else "scored lower than"
        if c.runs != SINGLE:
            return f"in these runs {first} {relation} {second}, {effect}"
        return f"this run of {first} {relation} this run of {second}, {effect}"
    relation = {
        BETTER: "is better than",
        WORSE: "is worse than",
        EQUIVALENT: "is as good as",
        UNDECIDED: "is not shown to differ from",
        NO_VERDICT: "minus",
    }[c.verdict]
    return f"{first} {relation} {second}, {effect}"


def _evidence(c: Comparison) -> str:
    level = f"{100 * (1 - c.alpha):.3g} %{' simultaneous' * (c.n_comparisons > 1)} interval"
    family = f" in {c.n_comparisons} comparisons" if c.n_comparisons > 1 else ""
    over = c.over.replace("seeds", f"{c.unit}s")
    p = f"= {c.p:.2g}" if c.p >= 0.001 else "< 0.001"
    few = ", few patients" if c.n_patients < MIN_PATIENTS and c.over != SEEDS else ""
    return (
        f"{level} {c.low:+.3g} to {c.high:+.3g} over {over}, p {p}{family}; {c.runs}, "
        f"{_count(c.n_volumes, 'volume')} of {_count(c.n_patients, 'patient')}{few}"
    )


def _verdict(c: Comparison) -> str:
    if c.verdict == NO_VERDICT:
        return f"{c.verdict}, since {c.refused}"
    margin = "" if c.margin is None else f"{c.margin:.3g}{unit_of(c.metric)}"
    source = f"; margin {margin}, {c.margin_source}" if margin else ""
    size = c.size.replace("the margin", margin)
    if c.verdict == EQUIVALENT:
        within = f"{c.verdict}, within {margin}"
        if c.size in (BETTER_BY_LESS, WORSE_BY_LESS):
            within = f"{size} ({within})" if c.margin_is_late else f"{within}, and {size}"
        return f"{within} ({c.margin_source})"
    words = f"{c.verdict}, {size}" if size else c.verdict
    if c.verdict == UNDECIDED and c.margin is not None:
        designs = [f"{s} {c.unit}s x {p} patients" for s, p in c.designs]
        needed = " or ".join(designs) if designs else "no design of up to 1000 seeds and patients"
        words += f"; would always decide: {needed}"
    return f"{words}{source}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
