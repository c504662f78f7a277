"""Decide the contrasts of a family together, and tell the result in words."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from mrirecon.ablation.findings.contrasts import Contrast, Family
from mrirecon.ablation.findings.rerun_scores import RerunScores
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
