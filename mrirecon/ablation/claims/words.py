"""Lines of the claims ledger: the verdict with its numbers, and a sentence that can stand alone. No torch here."""

import math
from collections.abc import Mapping
from typing import Any

from mrirecon.ablation.claims.claim import INCONCLUSIVE, NOT_TESTED, RATIO, REFUTED, SUPPORTED, Claim, Where
from mrirecon.ablation.claims.evidence import Estimate, Evidence
from mrirecon.ablation.claims.measures import Limits
from mrirecon.ablation.findings.plain import without_nan
from mrirecon.report.numbers import setting

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
    decided = [(where.verdict(estimate.at(where.level(alpha))), estimate) for estimate in evidence.estimates]
    verdict, estimate = _deciding(decided, where)
    interval = estimate.at(where.level(alpha))
    words = f"{_sentence(verdict, estimate, interval, where, evidence)} {_setting(study)}"
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


def _deciding(decided: list[tuple[str, Estimate]], where: Where) -> tuple[str, Estimate]:
    """All have to be where the claim says, and one that is elsewhere refutes it."""
    verdicts = {verdict for verdict, _ in decided}
    verdict = REFUTED if REFUTED in verdicts else SUPPORTED if verdicts == {SUPPORTED} else INCONCLUSIVE
    worst = max((pair for pair in decided if pair[0] == verdict), key=lambda pair: where.distance(pair[1].effect))
    return verdict, worst[1]


def _sentence(verdict: str, estimate: Estimate, interval: Limits, where: Where, evidence: Evidence) -> str:
    named = "" if estimate.name == "mean" else f"{estimate.name}: "
    found = _number(_natural(estimate.effect, where), where)
    if estimate.over:
        found = f"{_bound(interval)}{found} (family-adjusted interval {_range(interval, where)}, over {estimate.over})"
    note = f" {evidence.note[0].upper()}{evidence.note[1:]}." if evidence.note else ""
    return f"{verdict}: {named}{found}; the claim wants {_wanted(where)}.{note}"


def _bound(interval: Limits) -> str:
    """An effect that is known from one side only."""
    is_open = [math.isinf(end) for end in interval]
    return "" if all(is_open) else "at most " if is_open[0] else "at least " if is_open[1] else ""


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
    """Ratios as ratios."""
    if where.unit != RATIO:
        return value
    return math.exp(value) if value < _LARGEST else math.inf


def _number(value: float, where: Where) -> str:
    return f"{_digits(value, where)} {where.unit}" if math.isfinite(value) else "not bounded"


def _digits(value: float, where: Where) -> str:
    return f"{value:+.4f}" if where.unit == "SSIM" else f"{value:.3g}"
