"""Tell in sentences what a study shows: the leader, what is not settled, how each family came out."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.ablation.findings.leaderboard import Gap, leader
from mrirecon.ablation.findings.rerun_scores import RerunScores
from mrirecon.evaluation.stats import BETTER, EQUIVALENT, MIN_PATIENTS, WORSE

_FEW = 3  # cells that are named one by one
_SAYING = {BETTER: "better", WORSE: "worse", EQUIVALENT: "equivalent within the margin"}


def verdict(study: Mapping[str, Any], scores: RerunScores) -> list[str]:
    """Sentences on which cell leads, which are not distinguishable from it, and how each family came out.

    Args:
        study: With its `cells`, `families`, `zero_filled`, `margin` and `conditional`.
        scores: Test SSIM.
    """
    cells = {cell["cell"]: cell for cell in study["cells"]}
    said = [*_leading(cells, scores, study["zero_filled"]["ssim"])]
    compared = [family for family in study["families"] if family["comparisons"]]
    said += [*(_family(family, study["margin"]["ssim"]) for family in compared), *_reach(scores), *_caveats(cells)]
    return [*said, f"All of this is {study['conditional']}."] if compared and study["conditional"] else said


def _leading(cells: Mapping[str, Any], scores: RerunScores, zero_filled: float) -> list[str]:
    found = leader(scores)
    if found is None:
        return ["No cell leads yet: fewer than two cells have all of their reruns."]
    name, gaps = found
    ssim = cells[name]["final"]["ssim"]
    said = [
        f"{name} has the highest mean test SSIM, {ssim['mean']:.4f} (95 % interval {ssim['low']:.4f} to "
        f"{ssim['high']:.4f}; zero-filled {zero_filled:.4f}), over {_count(len(scores.seeds), 'seed')}, "
        f"{_count(len(scores.volumes), 'test volume')} and {_count(len(set(scores.patients)), 'patient')}."
    ]
    near = [gap for gap in gaps if not gap.is_distinct]
    far = [gap for gap in gaps if gap.is_distinct]
    n_pairs = len(gaps) * (len(gaps) + 1) // 2
    pairs = f"all {n_pairs} pairs of cells tested together" if n_pairs > 1 else "the pair of cells tested"
    together = f"with {pairs} at the 5 % level"
    if near:
        said.append(
            f"Not settled (zero in the interval, or closer than this study can tell), {together}: {_named(near)}."
        )
    if far:
        said.append(f"It is ahead of {_nearest(far)}{'' if near else f', {together}'}.")
    unranked = sorted(set(cells) - {name, *(gap.cell for gap in gaps)})
    return [*said, f"Not ranked, since reruns diverged or are missing: {', '.join(unranked)}."] if unranked else said


def _named(gaps: Sequence[Gap]) -> str:
    """All by name, with their distances while these can be read."""
    if len(gaps) <= 2 * _FEW:
        return ", ".join(map(_distance, gaps))
    return f"{', '.join(gap.cell for gap in gaps)}; the last is behind by {_span(gaps[-1])}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _distance(gap: Gap) -> str:
    return f"{gap.cell} (by {_span(gap)})"


def _span(gap: Gap) -> str:
    return f"{gap.mean:.4f}, {gap.low:.4f} to {gap.high:.4f}"


def _nearest(gaps: Sequence[Gap]) -> str:
    if len(gaps) <= _FEW:
        return ", ".join(map(_distance, gaps))
    return f"{len(gaps)} others, from {_distance(gaps[0])} to {_distance(gaps[-1])}"


def _family(family: Mapping[str, Any], margin: float) -> str:
    """Say what was found in a family, by name and effect, and how many comparisons are undecided."""
    parts = []
    for found, saying in _SAYING.items():
        named = [_effect(c) for c in family["comparisons"] if c["verdict"] == found]
        if named:
            parts.append(f"{saying}{f' of {margin:.2g}' * (found == EQUIVALENT)}: {', '.join(named)}")
    if family["refused"]:
        parts.append(f"no verdicts, since {family['refused']}")
    n_undecided = 0 if family["refused"] else sum(c["verdict"] not in _SAYING for c in family["comparisons"])
    if n_undecided:
        parts.append(f"{n_undecided} of {len(family['comparisons'])} undecided")
    name = family["name"]
    return f"{name[0].upper()}{name[1:]}: {'; '.join(parts)}."


def _effect(comparison: Mapping[str, Any]) -> str:
    name = comparison["first"] if len(comparison["cells"]) == 2 else comparison["name"]
    return f"{name} ({comparison['effect']:+.3g}, {comparison['low']:+.3g} to {comparison['high']:+.3g})"


def _reach(scores: RerunScores) -> list[str]:
    """Return what the intervals do not cover, with one seed or few patients."""
    if not scores.values:
        return []
    if len(scores.seeds) == 1:
        return ["With one seed nothing is known about the spread between trainings: this holds for these single runs."]
    if len(set(scores.patients)) < MIN_PATIENTS:
        return [f"With fewer than {MIN_PATIENTS} patients the intervals are over seeds: this holds for these volumes."]
    return []


def _caveats(cells: Mapping[str, Any]) -> list[str]:
    """Return the sentences on cells that diverged, whose best trial lies at an edge, or that failed."""
    said = []
    if diverged := [f"{name} ({c['n_diverged']} of {c['n_seeds']})" for name, c in cells.items() if c["n_diverged"]]:
        said.append(f"Reruns diverged in {', '.join(diverged)}: no verdict is given in favour of these cells.")
    if edges := [f"{name} ({c['edge']})" for name, c in cells.items() if c["edge"]]:
        said.append(
            f"The best trial lies at the edge of its range, so that more may be possible, in {', '.join(edges)}."
        )
    if failed := [name for name, c in cells.items() if c["error"]]:
        said.append(f"Runs failed in {', '.join(failed)}.")
    return said
