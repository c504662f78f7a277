"""How the comparisons of a family are told, and what stands beside them. No torch here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mrirecon.ablation.findings.contrasts import Contrast, Family
from mrirecon.evaluation.stats import Comparison, in_words
from mrirecon.tables.metrics import METRICS

_Part = tuple[Sequence[Contrast], int, float, str]  # contrasts, number of seeds, smallest p, refusal


def plain(
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


def about(family: Family, metric: str, parts: Sequence[_Part]) -> str:
    """The note of a family: how it was tested, the smallest p that it can reach, what was refused or is missing.

    Args:
        family: All of its contrasts.
        metric: What was compared.
        parts: Of the contrasts that share their seeds: contrasts, number of seeds, smallest p and refusal.
    """
    compared = [contrast for contrasts, *_ in parts for contrast in contrasts]
    missing = [contrast for contrast in family.contrasts if contrast not in compared]
    notes = (
        [f"{len(compared)} comparison{'s' * (len(compared) != 1)} of {metric}"] if compared else ["Nothing to compare"]
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
