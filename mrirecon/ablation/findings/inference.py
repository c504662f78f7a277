"""Families of contrasts, decided on the scores of the reruns. No torch here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mrirecon.ablation.findings.contrasts import Contrast, Family
from mrirecon.ablation.findings.family_words import about, plain
from mrirecon.ablation.findings.rerun_scores import RerunScores
from mrirecon.errors import InputError
from mrirecon.evaluation.stats import (
    BETTER,
    EQUIVALENT,
    INCONCLUSIVE,
    MIN_PATIENTS,
    WORSE,
    Comparison,
    by_patient,
    compare_family,
    crossed_bootstrap,
    crossed_effect,
    require_decidable,
    smallest_p,
)

ALPHA = 0.05
UNDECIDED = ""  # the verdict of comparisons that cannot reach ALPHA


@dataclass(frozen=True)
class _Group:
    """The contrasts of a family whose cells share the same seeds: only these can be flipped together."""

    seeds: tuple[int, ...]  # rows of the scores
    contrasts: tuple[Contrast, ...]
    n_family: int  # contrasts of all groups
    n_patients: int

    @property
    def alpha(self) -> float:
        """Its part of the family's."""
        return ALPHA * len(self.contrasts) / self.n_family

    @property
    def n_flipped(self) -> int:
        """What the test flips: seeds, or the patients of a single seed."""
        return len(self.seeds) if len(self.seeds) > 1 else self.n_patients

    @property
    def smallest_p(self) -> float:
        """That a comparison can have, adjusted for the family."""
        return smallest_p(self.n_flipped) * self.n_family / len(self.contrasts)

    @property
    def refusal(self) -> str:
        """Why it cannot be decided; empty if it can."""
        try:
            require_decidable(self.n_flipped, self.alpha)
        except InputError as error:
            return str(error)
        return ""


def decide(family: Family, scores: RerunScores, margin: float | None, conditional: str) -> dict[str, Any]:
    """Decide a family on the seeds that its cells share.

    A seed whose rerun is missing or diverged in one of a contrast's cells is left out of that contrast only. Contrasts
    with different seeds cannot be flipped together: each such group gets its part of `ALPHA`, so that the chance of a
    false finding in the whole family stays below it. What is left of a cell that diverged are its better runs, so no
    verdict is given in its favour.

    Args:
        family: The contrasts.
        scores: Of the reruns.
        margin: Of equivalence, in units of the scores; None or NaN: equivalence is not tested.
        conditional: What every verdict depends on, in words; may be empty.

    Returns:
        `name`; `n_seeds` and `smallest_p` of the comparison that is worst off; `note`; `refused`: why there are no
        verdicts at all, else empty; `comparisons`: each a `Comparison` as a dict with `words`, `first`, `second` and
        `cells`, its verdict empty where it cannot reach `ALPHA`.
    """
    groups = list(_groups(family, scores))
    decided = {
        contrast.name: plain(made, contrast, scores.diverged, group.refusal, conditional)
        for group in groups
        for contrast, made in _compare(group, scores, margin)
    }
    refusals = {group.refusal for group in groups}
    return {
        "name": family.name,
        "n_seeds": min((len(group.seeds) for group in groups), default=0),
        "smallest_p": max((group.smallest_p for group in groups), default=None),
        "note": about(family, scores.metric, [(g.contrasts, len(g.seeds), g.smallest_p, g.refusal) for g in groups]),
        "refused": "" if "" in refusals else " ".join(sorted(refusals)),
        "comparisons": [decided[contrast.name] for contrast in family.contrasts if contrast.name in decided],
    }


def _groups(family: Family, scores: RerunScores) -> Iterator[_Group]:
    """Contrasts of which all cells are scored, by the seeds that these share."""
    found: dict[tuple[int, ...], list[Contrast]] = {}
    for contrast in family.contrasts:
        if all(cell in scores.values for cell in contrast.weights):
            shared = np.all([scores.present(cell) for cell in contrast.weights], axis=0)
            found.setdefault(tuple(np.flatnonzero(shared).tolist()), []).append(contrast)
    n_patients = len(set(scores.patients))
    enough = {s: c for s, c in found.items() if len(s) > 1 or (len(s) == 1 and n_patients >= MIN_PATIENTS)}
    n_family = sum(map(len, enough.values()))
    for seeds, contrasts in enough.items():
        yield _Group(seeds, tuple(contrasts), n_family, n_patients)


def _compare(group: _Group, scores: RerunScores, margin: float | None) -> Iterator[tuple[Contrast, Comparison]]:
    rows = {cell: values[list(group.seeds)] for cell, values in scores.values.items()}
    differences = {contrast.name: contrast.of(rows) for contrast in group.contrasts}
    made = compare_family(
        differences,
        scores.patients,
        metric=scores.metric,
        better=scores.better,
        margin=margin if margin and margin > 0 else None,
        alpha=group.alpha,
    )
    for contrast, comparison in zip(group.contrasts, made, strict=True):
        shown = _in_family(comparison, differences[contrast.name], scores.patients, group.n_family)
        verdict = UNDECIDED if group.refusal else _without_survivors(shown.verdict, contrast, scores)
        yield contrast, replace(shown, verdict=verdict)


def _in_family(made: Comparison, d: np.ndarray, patients: Sequence[str], n_family: int) -> Comparison:
    """A comparison decided at a part of `ALPHA`, with what it shows at `ALPHA`; the verdict stays."""
    if made.n_comparisons == n_family:
        return made
    table = by_patient(d, patients)
    alone, drawn = crossed_effect(table, 1 - ALPHA), crossed_bootstrap(table, 1 - ALPHA)
    return replace(
        made,
        low=alone.low,
        high=alone.high,
        bootstrap_low=drawn.low,
        bootstrap_high=drawn.high,
        p_family=min(1.0, made.p_family * n_family / made.n_comparisons),
        n_comparisons=n_family,
        alpha=ALPHA,
    )


def _without_survivors(verdict: str, contrast: Contrast, scores: RerunScores) -> str:
    """Withhold a verdict in favour of a cell of which only the runs that did not diverge are scored."""
    weights = [weight for cell, weight in contrast.weights.items() if scores.diverged.get(cell)]
    withheld = {EQUIVALENT} if weights else set()
    withheld |= {BETTER} if any(weight > 0 for weight in weights) else set()
    withheld |= {WORSE} if any(weight < 0 for weight in weights) else set()
    return INCONCLUSIVE if verdict in withheld else verdict
