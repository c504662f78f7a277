"""A claim: where its effect has to lie, what an interval says of it, and the line that the ledger gets."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mrirecon.ablation.claims.evidence import Estimate, Evidence, Limits, Rule
from mrirecon.ablation.study.records import without_nan
from mrirecon.report.words import setting

SUPPORTED, REFUTED, INCONCLUSIVE, NOT_TESTED = "SUPPORTED", "REFUTED", "INCONCLUSIVE", "NOT TESTED"
BELOW_MARGIN = "BELOW MARGIN"  # the sign is as claimed, and the effect smaller than what counts
ALL, MAJORITY = "all", "majority"  # which of its effects have to be where a claim says
RATIO = "x"  # the unit of effects that are natural logarithms of ratios


@dataclass(frozen=True)
class Where:
    """A region of effects: above or below a margin, or within it around a centre."""

    side: str  # above, below or within
    margin: float | None  # None: the study's margin of equivalence; of ratios a factor
    unit: str
    centre: float = 0.0

    def with_margin(self, margin: float) -> "Where":
        """The same with the study's margin where the claim has none of its own."""
        return replace(self, margin=margin) if self.margin is None else self

    @property
    def limits(self) -> Limits:
        """Ends of the region in the unit of the estimates; NaN where the margin is not known."""
        margin, centre = (math.nan if self.margin is None else self.margin), self.centre
        if self.unit == RATIO:
            margin, centre = math.log(margin), math.log(centre or 1)
        if self.side == "within":
            return Limits(centre - margin, centre + margin)
        return Limits(margin, math.inf) if self.side == "above" else Limits(-math.inf, margin)

    def verdict(self, interval: Limits) -> str:
        """Return what an interval says: SUPPORTED inside the region, REFUTED outside of it, else INCONCLUSIVE.

        Outside of it, but on the claimed side of no effect: BELOW_MARGIN.
        """
        region = self.limits
        if any(math.isnan(end) for end in (*region, *interval)):
            return INCONCLUSIVE
        above_low = interval.low > region.low or region.low == -math.inf
        below_high = interval.high < region.high or region.high == math.inf
        if above_low and below_high:
            return SUPPORTED
        if not (interval.low > region.high or interval.high < region.low):
            return INCONCLUSIVE
        has_sign = {
            "above": interval.low > 0 and region.low > 0,
            "below": interval.high < 0 and region.high < 0,
            "within": False,
        }
        return BELOW_MARGIN if has_sign[self.side] else REFUTED

    def distance(self, effect: float) -> float:
        """Return how far an effect is from where the claim wants it; of several, the farthest decides."""
        if self.side == "within":
            return abs(effect - (math.log(self.centre or 1) if self.unit == RATIO else self.centre))
        return -effect if self.side == "above" else effect


def above(margin: float | None, unit: str) -> Where:
    """Effects larger than the margin."""
    return Where("above", margin, unit)


def below(margin: float | None, unit: str) -> Where:
    """Effects smaller than the margin."""
    return Where("below", margin, unit)


def within(margin: float, unit: str, centre: float = 0.0) -> Where:
    """Effects that differ from the centre by less than the margin (of ratios: by a smaller factor)."""
    return Where("within", margin, unit, centre)


@dataclass(frozen=True)
class Claim:
    """One line of the ledger."""

    id: str
    text: str
    measure: str = ""
    rule: Rule | None = None  # None: no grid that is shipped could decide it
    where: Where | None = None
    quorum: str = ALL  # or MAJORITY: more than half of its effects decide
    needs: str = ""  # cells, in words
    grid: str = ""  # shipped one that has them


_LARGEST = 700.0  # logarithm of what a float can hold


def entry(
    claim: Claim, where: Where | None, evidence: Evidence | None, alpha: float, study: Mapping[str, Any]
) -> dict[str, Any]:
    """A claim's entry in a study.

    Args:
        claim: The claim.
        where: Its region, with the study's margin.
        evidence: What its rule found; None: it has no rule.
        alpha: Of each interval.
        study: For the setting that the sentence names.
    """
    made: dict[str, Any] = {"claim": claim.id, "text": claim.text, "measure": claim.measure}
    if where is None or evidence is None or evidence.is_absent:
        return made | _not_tested(claim, evidence)
    made |= {
        "cells": list(evidence.cells),
        "margin": where.margin,
        "unit": where.unit,
        "command": study.get("command", ""),
    }
    if not evidence.estimates:
        words = f"The cells are there, but {evidence.unclear}: {INCONCLUSIVE}. {_setting(study)}"
        return dict(without_nan(made | _numbers(INCONCLUSIVE, math.nan, Limits(math.nan, math.nan), words)))
    decided = [(where.verdict(estimate.at(1 - alpha)), estimate) for estimate in evidence.estimates]
    verdict, estimate = _deciding(decided, where, claim.quorum)
    interval = estimate.at(1 - alpha)
    words = (
        f"{_sentence(verdict, estimate, interval, where, evidence)}{_count(decided, claim.quorum)} {_setting(study)}"
    )
    effect, *ends = (_natural(value, where) for value in (estimate.effect, *interval))
    return dict(without_nan(made | _numbers(verdict, effect, Limits(*ends), words)))


def _setting(study: Mapping[str, Any]) -> str:
    """Return data, model and budget in parentheses, and what the verdict depends on."""
    data = study.get("data") or {}
    origins = " and ".join(data.get("origins") or ()) or "data of unknown origin"
    volumes = f"{data.get('n_train', '?')} training and {data.get('n_test', '?')} test volumes"
    return f"({setting(study, f'{origins}; {volumes}', str(study.get('conditional') or ''))})"


def _not_tested(claim: Claim, evidence: Evidence | None) -> dict[str, Any]:
    if evidence is None:
        words, command = f"No shipped grid contains its cells; it needs {claim.needs}.", ""
    else:
        words = f"This study has no such cells; it needs {claim.needs}, as the shipped grid {claim.grid} has."
        command = f"mrirecon ablate run ablation/{claim.grid}"
    made: dict[str, Any] = {
        "cells": [],
        "margin": None,
        "unit": claim.where.unit if claim.where else "",
        "command": command,
    }
    return made | {"verdict": NOT_TESTED, "effect": None, "low": None, "high": None, "words": words}


def _numbers(verdict: str, effect: float, interval: Limits, words: str) -> dict[str, Any]:
    return {"verdict": verdict, "effect": effect, "low": interval.low, "high": interval.high, "words": words}


def _deciding(decided: list[tuple[str, Estimate]], where: Where, quorum: str) -> tuple[str, Estimate]:
    """Return the verdict of all effects and the effect that decides it.

    Of ALL, one elsewhere refutes, one that is too small makes the claim so, and all inside support. Of a MAJORITY,
    more than half of the effects have to say the same.
    """
    verdicts = [verdict for verdict, _ in decided]
    strongest_first = (REFUTED, INCONCLUSIVE, BELOW_MARGIN, SUPPORTED)
    if quorum == MAJORITY:
        verdict = next((v for v in strongest_first if 2 * verdicts.count(v) > len(verdicts)), INCONCLUSIVE)
    else:
        verdict = next(v for v in strongest_first if v in verdicts)
    worst = max((pair for pair in decided if pair[0] == verdict), key=_distance(where), default=None)
    return verdict, (worst or max(decided, key=_distance(where)))[1]


def _distance(where: Where) -> Callable[[tuple[str, Estimate]], float]:
    return lambda pair: where.distance(pair[1].effect)


def _count(decided: list[tuple[str, Estimate]], quorum: str) -> str:
    """Count the verdicts of several effects in a sentence; that before it shows the effect that is farthest off."""
    if len(decided) < 2:
        return ""
    verdicts = [verdict for verdict, _ in decided]
    counts = ", ".join(f"{verdicts.count(v)} {v.lower()}" for v in dict.fromkeys(sorted(verdicts)))
    asked = "more than half decide" if quorum == MAJORITY else "all have to hold"
    return f" Of {len(decided)} effects {counts}; {asked}."


def _sentence(verdict: str, estimate: Estimate, interval: Limits, where: Where, evidence: Evidence) -> str:
    named = "" if estimate.name == "mean" else f"{estimate.name}: "
    found = _number(_natural(estimate.effect, where), where)
    if estimate.over:
        # an effect that is known from one side only
        is_open = [math.isinf(end) for end in interval]
        side = "" if all(is_open) else "at most " if is_open[0] else "at least " if is_open[1] else ""
        found = f"{side}{found} (family-adjusted interval {_range(interval, where)}, over {estimate.over})"
    note = f" {evidence.note[0].upper()}{evidence.note[1:]}." if evidence.note else ""
    return f"{verdict}: {named}{found}; the claim wants {_wanted(where)}.{note}"


def _range(interval: Limits, where: Where) -> str:
    ends = [_natural(end, where) for end in interval]
    if all(map(math.isinf, interval)):
        return "without ends"
    if math.isinf(interval.low):
        return f"up to {_number(ends[1], where)}"
    if math.isinf(interval.high):
        return f"from {_number(ends[0], where)} on"
    return f"{_digits(ends[0], where)} to {_number(ends[1], where)}"


def _wanted(where: Where) -> str:
    if where.margin is None or math.isnan(where.margin):
        return f"{'more' if where.side == 'above' else 'less'} than the study's margin, which is not known"
    if where.side != "within":
        return f"{'more' if where.side == 'above' else 'less'} than {_number(where.margin, where)}"
    ends = [_natural(end, where) for end in where.limits]
    return f"{_digits(ends[0], where)} to {_number(ends[1], where)}"


def _natural(value: float, where: Where) -> float:
    """Return an effect in its own unit: the exponential of a log ratio, other effects as they are."""
    if where.unit != RATIO:
        return value
    return math.exp(value) if value < _LARGEST else math.inf


def _number(value: float, where: Where) -> str:
    return f"{_digits(value, where)} {where.unit}" if math.isfinite(value) else "not bounded"


def _digits(value: float, where: Where) -> str:
    return f"{value:+.4f}" if where.unit == "SSIM" else f"{value:.3g}"
