"""Decide the contrasts of a family together, and tell the result in words."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mrirecon.ablation.findings.contrasts import Contrast, Family
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
    in_words,
    require_decidable,
    smallest_p,
)
from mrirecon.tables.metrics import METRICS, label_of

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
        """Share of the family's `ALPHA` that the group tests at, by its number of contrasts (Bonferroni; Dunn 1961)."""
        return ALPHA * len(self.contrasts) / self.n_family

    @property
    def n_flipped(self) -> int:
        """Number of units whose signs the test flips: seeds, or the patients of a single seed."""
        return len(self.seeds) if len(self.seeds) > 1 else self.n_patients

    @property
    def smallest_p(self) -> float:
        """Smallest p that a comparison can have, adjusted for the family (Bonferroni; Dunn 1961)."""
        return smallest_p(self.n_flipped) * self.n_family / len(self.contrasts)

    @property
    def refusal(self) -> str:
        """Reason why it cannot be decided; empty if it can."""
        try:
            require_decidable(self.n_flipped, self.alpha)
        except InputError as error:
            return str(error)
        return ""


def decide(family: Family, scores: RerunScores, margin: float | None, conditional: str) -> dict[str, Any]:
    """Decide a family on the seeds that its cells share.

    A seed whose rerun is missing or diverged in one of a contrast's cells is left out of that contrast only. Contrasts
    with different seeds cannot be flipped together: each such group gets its part of `ALPHA`, so that the chance of a
    false finding in the whole family stays below it (Bonferroni's inequality; Dunn 1961). What is left of a cell that
    diverged are its better runs, so no verdict is given in its favour.

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
        contrast.name: _plain(made, contrast, scores.diverged, group.refusal, conditional)
        for group in groups
        for contrast, made in _compare(group, scores, margin)
    }
    refusals = {group.refusal for group in groups}
    return {
        "name": family.name,
        "n_seeds": min((len(group.seeds) for group in groups), default=0),
        "smallest_p": max((group.smallest_p for group in groups), default=None),
        "note": _about(family, scores.metric, [(g.contrasts, len(g.seeds), g.smallest_p, g.refusal) for g in groups]),
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


_Part = tuple[Sequence[Contrast], int, float, str]  # contrasts, number of seeds, smallest p, refusal


def _plain(
    made: Comparison, contrast: Contrast, diverged: Mapping[str, Collection[int]], refusal: str, conditional: str
) -> dict[str, Any]:
    """A comparison as plain data, with its `words`.

    Args:
        made: The comparison; its verdict may be empty.
        contrast: What was compared.
        diverged: Seeds of the reruns that diverged, by cell.
        refusal: Why there is no verdict; empty if there is one.
        conditional: What the verdict depends on; may be empty.
    """
    words = [_in_words(made, contrast, refusal)]
    failed = [cell for cell in contrast.weights if diverged.get(cell)]
    if failed:
        words.append(f"compared without the seeds that diverged in {', '.join(failed)}, so not in favour of it")
    words += [conditional] if conditional else []
    return {
        **asdict(made),
        "words": "; ".join(word.rstrip(".") for word in words) + ".",
        "first": contrast.first,
        "second": contrast.second,
        "cells": list(contrast.weights),
    }


def _about(family: Family, metric: str, parts: Sequence[_Part]) -> str:
    """The note of a family: how it was tested, the smallest p that it can reach, what was refused or is missing.

    Args:
        family: All of its contrasts.
        metric: What was compared.
        parts: Of the contrasts that share their seeds: contrasts, number of seeds, smallest p and refusal.
    """
    compared = [contrast for contrasts, *_ in parts for contrast in contrasts]
    missing = [contrast for contrast in family.contrasts if contrast not in compared]
    notes = (
        [f"{len(compared)} comparison{'s' * (len(compared) != 1)} of {label_of(metric)}"]
        if compared
        else ["Nothing to compare"]
    )
    for contrasts, n_seeds, smallest, refusal in parts:
        which = "" if len(parts) == 1 else f"{', '.join(contrast.name for contrast in contrasts)}: "
        flipped = f"{n_seeds} seeds" if n_seeds > 1 else "patients of a single seed"
        notes.append(
            f"{which}sign flips over {flipped}, smallest attainable p {smallest:.2g} (adjusted for the family)"
        )
        notes += [f"{which}no verdicts, since {refusal}"] if refusal else []
    if missing:
        notes.append(f"too few reruns to compare {', '.join(contrast.name for contrast in missing)}")
    return "; ".join(notes) + "."


def _in_words(made: Comparison, contrast: Contrast, refusal: str) -> str:
    if made.metric in METRICS and not refusal:
        return in_words(made, contrast.first, contrast.second)
    settled = f", about {made.seeds_needed} seeds would settle it" if made.seeds_needed else ""
    return (
        f"{made.metric}: {made.effect:+.3g} from {contrast.second} to {contrast.first} (95 % interval {made.low:+.3g} "
        f"to {made.high:+.3g} over {made.generalizes}; sign-flip p = {made.p:.2g}, in {made.n_comparisons} comparisons "
        f"{made.p_family:.2g}; {made.n_seeds} paired seeds): "
        + (f"no verdict, since {refusal}" if refusal else made.verdict + settled)
    )
