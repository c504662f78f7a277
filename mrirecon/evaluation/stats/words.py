"""A comparison in words, as it can stand in a paper."""

from mrirecon.evaluation.stats.comparison import Comparison
from mrirecon.evaluation.stats.flips import smallest_p
from mrirecon.evaluation.stats.power import MAX_SEEDS
from mrirecon.evaluation.stats.verdict import BETTER, EQUIVALENT, INCONCLUSIVE, WORSE
from mrirecon.tables.metrics import label_of, unit_of


def in_words(comparison: Comparison, first: str, second: str) -> str:
    """One sentence with effect, interval, p values, numbers of seeds, volumes and patients, and the verdict.

    Args:
        comparison: Of `first` minus `second`.
        first: How the first method is called.
        second: How the second is called.
    """
    found = f"{_found(comparison, first, second)} ({_evidence(comparison)}): {_verdict(comparison)}"
    return f"{label_of(comparison.metric)}: {found}."


def _found(c: Comparison, first: str, second: str) -> str:
    relation = {
        BETTER: "is better than",
        WORSE: "is worse than",
        EQUIVALENT: "is as good as",
        INCONCLUSIVE: "is not shown to differ from",
    }[c.verdict]
    return f"{first} {relation} {second}, {_signed(c.effect)}{unit_of(c.metric)}"


def _evidence(c: Comparison) -> str:
    parts = [
        f"{100 * (1 - c.alpha):g} % interval {_signed(c.low)} to {_signed(c.high)} over {_over(c)}",
        f"sign-flip p {_p(c.p)}" + (f", in {c.n_comparisons} comparisons p {_p(c.p_family)}" if _many(c) else ""),
        f"{_count(c.n_seeds, 'paired seed')}, {_count(c.n_volumes, 'volume')} of {_count(c.n_patients, 'patient')}",
    ]
    return "; ".join(parts)


def _verdict(c: Comparison) -> str:
    if c.verdict == EQUIVALENT:
        return f"{c.verdict}, within {c.margin:.3g}{unit_of(c.metric)} (equivalence p {_p(c.tost_p or 0.0)})"
    if c.verdict != INCONCLUSIVE:
        caveat = {"seeds": ", on these patients", "volumes": ", of these single runs"}.get(c.generalizes, "")
        return f"{c.verdict}{caveat}"
    return f"{c.verdict}, minimum detectable difference {c.mde:.3g}{unit_of(c.metric)}; {_settled(c)}"


def _settled(c: Comparison) -> str:
    if c.generalizes == "volumes":
        return "one run of each says nothing about other seeds"
    few = f"{c.n_seeds} seeds cannot go below p = {smallest_p(c.n_seeds):.2g}, "
    start = few if smallest_p(c.n_seeds) > c.alpha else ""
    if c.seeds_needed is None:
        return f"{start}not even {MAX_SEEDS} seeds alone would settle it"
    return f"{start}about {c.seeds_needed} seeds would settle it"


def _over(c: Comparison) -> str:
    return {"seeds and volumes": "seeds and patients", "volumes": "patients"}.get(c.generalizes, c.generalizes)


def _many(c: Comparison) -> bool:
    return c.n_comparisons > 1


def _signed(value: float) -> str:
    return f"{value:+.3g}"


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 0.001 else "< 0.001"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
