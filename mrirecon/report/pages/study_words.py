"""A study's verdict in a few sentences, for the top of its page."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.report.pages.family_names import NO_VERDICT, comparison_names, verdict_of
from mrirecon.report.pages.numbers import capital, interval, number

_ORDER = ("BETTER", "WORSE", "EQUIVALENT", "INCONCLUSIVE", NO_VERDICT)
_CLAIMS = ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "NOT TESTED")
_MOST_NAMES = 6


def verdict_sentences(study: Mapping[str, Any]) -> list[str]:
    """Which cell leads, what each family decides, how the claims stand, and what all of it is conditional on.

    The study's own `verdict`, where the analysis has written one, takes the place of all but the claims.
    """
    claims = [_claims(study["claims"])] if study.get("claims") else []
    if study.get("verdict"):
        return [*study["verdict"], *claims]
    decided = [_family(family) for family in study.get("families") or () if family["comparisons"]]
    condition = [f"All of it is {study['conditional']}."] if study.get("conditional") else []
    return [_leader(study), *decided, *claims, *condition]


def setting(study: Mapping[str, Any]) -> str:
    """Data, masks, model and budget in one line: no number means anything without them."""
    data = study.get("data") or {}
    accelerations = " and ".join(f"{r:g}x" for r in data.get("acceleration") or ())
    parts = [
        f"{data.get('n_test', '?')} test volumes of {data.get('n_patients_test', '?')} patients "
        f"({', '.join(data.get('origins') or ['origin not recorded'])})",
        " ".join(text for text in (f"{data['mask']} mask" if data.get("mask") else "", accelerations) if text),
        study.get("model"),
        study.get("budget"),
        f"protocol {study['protocol']}" if study.get("protocol") else "",
    ]
    return "; ".join(str(part) for part in parts if part)


def _leader(study: Mapping[str, Any]) -> str:
    cells = [cell for cell in study["cells"] if ((cell.get("final") or {}).get("ssim") or {}).get("mean") is not None]
    if not cells:
        return "No cell has been rerun yet, so there is no verdict."
    best = max(cells, key=lambda cell: cell["final"]["ssim"]["mean"])
    ssim = best["final"]["ssim"]
    limits = interval(ssim, ".4f")
    score = f"{ssim['mean']:.4f}" + (f" {limits}" if limits else "")
    zero_filled = (study.get("zero_filled") or {}).get("ssim")
    beside = "" if zero_filled is None else f"; zero-filled has {number(zero_filled, '.4f')}"
    seeds = best.get("n_seeds")
    over = "" if not seeds else " with one seed" if seeds == 1 else f" over {seeds} seeds"
    missing = len(study["cells"]) - len(cells)
    left = f" {missing} of {len(study['cells'])} cells have no scores." if missing else ""
    return f"The highest mean test SSIM is that of {best['cell']}: {score}{over}{beside}.{left}"


def _family(family: Mapping[str, Any]) -> str:
    names: dict[str, list[str]] = {}
    for name, item in zip(comparison_names(family), family["comparisons"], strict=True):
        names.setdefault(verdict_of(item), []).append(name)
    found = [f"{word.lower()}: {_listed(names[word])}" for word in _ORDER if word in names]
    return f"{capital(family['name'])}: {'; '.join(found)}."


def _claims(claims: Sequence[Mapping[str, Any]]) -> str:
    counts = {word: sum(claim["verdict"] == word for claim in claims) for word in _CLAIMS}
    found = [f"{n} {word.lower()}" for word, n in counts.items() if n]
    return f"Of {len(claims)} claims, {', '.join(found)}."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown
