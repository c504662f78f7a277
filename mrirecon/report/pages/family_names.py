"""How the comparisons of a family are called beside each other."""

from collections.abc import Mapping, Sequence
from typing import Any

NO_VERDICT = "NO VERDICT"  # the comparison cannot reach the level of its family


def comparison_names(family: Mapping[str, Any]) -> list[str]:
    """The full names; only what comes first where all have the same second, which the family's name says."""
    comparisons: Sequence[Mapping[str, Any]] = family["comparisons"]
    if len(comparisons) > 1 and len({item.get("second") or item["name"] for item in comparisons}) == 1:
        return [str(item.get("first") or item["name"]) for item in comparisons]
    return [str(item["name"]) for item in comparisons]


def verdict_of(item: Mapping[str, Any]) -> str:
    """BETTER, WORSE, EQUIVALENT, INCONCLUSIVE, or that there is none."""
    return str(item.get("verdict") or NO_VERDICT)
