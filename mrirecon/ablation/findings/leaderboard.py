"""The scores of each cell in its reruns: means with intervals, which cell leads, and the verdict in words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrirecon.ablation.findings.rerun_scores import RerunScores
from mrirecon.ablation.study.records import RunResult
from mrirecon.errors import InputError
from mrirecon.evaluation.stats import (
    BETTER,
    EQUIVALENT,
    MIN_PATIENTS,
    MIN_SEEDS,
    NO_VERDICT,
    UNDECIDED,
    WORSE,
    Comparison,
    Margin,
    by_draw,
    by_patient,
    compare_family,
    crossed_effect,
    exact_share,
    sample,
)
from mrirecon.evaluation.stats.verdict import BY_MORE, NOT_BETTER, NOT_WORSE


def final_scores(scores: Mapping[str, RerunScores], cell: str) -> dict[str, dict[str, float]] | None:
    """Mean test scores of a cell by metric, with 95 % intervals over seeds and patients; None before a rerun.

    `sd_seeds` is the standard deviation over seeds of the mean over volumes. The interval (see
    `crossed_effect`) is of the score itself and as wide as volumes differ; whether two cells differ is for their
    paired differences to say.

    Args:
        scores: By metric.
        cell: Its name.
    """
    known = {metric: _final(of_metric, cell) for metric, of_metric in scores.items() if cell in of_metric.values}
    return known or None


def validation_scores(reruns: Sequence[RunResult]) -> dict[str, dict[str, float]]:
    """Mean best validation SSIM and area under the validation loss, with t intervals (Student 1908) over seeds."""
    finished = [run for run in reruns if run.diverged_at is None and run.points]
    return {
        "best_ssim": mean_and_interval(
            [
                max((p.scores["ssim"] for p in run.points if math.isfinite(p.scores["ssim"])), default=math.nan)
                for run in finished
            ]
        ),
        "area": mean_and_interval([run.area for run in finished]),
    }


def mean_and_interval(values: Sequence[float], level: float = 0.95) -> dict[str, float]:
    """Return the mean over seeds with its interval of Student's t (1908); NaN where there are too few values.

    Args:
        values: One of each seed; those that are not finite are left out.
        level: Confidence level of the interval.
    """
    from scipy.stats import t

    finite = np.array([v for v in values if math.isfinite(v)], float)
    mean = float(finite.mean()) if len(finite) else math.nan
    if len(finite) < 2:
        return {"mean": mean, "low": math.nan, "high": math.nan}
    # not t.interval, which has no interval for equal values
    half = float(t.ppf((1 + level) / 2, len(finite) - 1) * finite.std(ddof=1) / math.sqrt(len(finite)))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def volumes_of(scores: RerunScores, cell: str) -> dict[str, Any] | None:
    """Mean SSIM over seeds of each test volume; None before a rerun."""
    if cell not in scores.values:
        return None
    rows = scores.values[cell][scores.present(cell)]
    return {"names": list(scores.volumes), "ssim": rows.mean(axis=0).tolist()}


def divergence(reruns: Sequence[RunResult], level: float = 0.95) -> dict[str, float]:
    """Count the diverged reruns of a cell, and give the interval of their share (Clopper and Pearson 1934)."""
    n_diverged = sum(run.diverged_at is not None for run in reruns)
    low, high = exact_share(n_diverged, len(reruns), level)
    return {"n": n_diverged, "of": len(reruns), "low": low, "high": high}


def leader(
    scores: RerunScores, margin: Margin | None = None, alpha: float = 0.05
) -> tuple[str, list[Comparison]] | None:
    """The cell with the highest mean, and how far it is ahead of the others, nearest first.

    The leader is chosen by the same data, so its comparisons stand in the family of all pairs of cells, a secondary
    one. Only cells with all of their reruns take part; a rerun that diverged counts as the zero-filled image, and where
    the grid excludes it its cell takes no part.

    Args:
        scores: A metric of which more is better.
        margin: Of equivalence.
        alpha: Of all pairs together.

    Returns:
        None with fewer than two such cells, or too few seeds and patients for an interval.
    """
    survivors = scores.survivors(scores.values)
    cells = [cell for cell in scores.values if scores.present(cell).all() and cell not in survivors]
    if len(cells) < 2 or not scores.volumes or scores.patients is None:
        return None
    means = {cell: by_patient(scores.values[cell], scores.patients).mean() for cell in cells}
    first, *others = sorted(cells, key=lambda cell: (-means[cell], cell))
    try:
        samples = [
            sample(other, [scores.side(first, 1.0), scores.side(other, -1.0)], scores.patients) for other in others
        ]
    except InputError:
        return None
    n_pairs = len(cells) * (len(cells) - 1) // 2
    ahead = compare_family(
        samples, metric=scores.metric, better=scores.better, margin=margin, alpha=alpha, n_comparisons=n_pairs
    )
    return first, ahead


def _final(scores: RerunScores, cell: str) -> dict[str, float]:
    rows = scores.values[cell][scores.present(cell)]
    means = rows.mean(axis=1)
    sd = float(means.std(ddof=1)) if len(means) > 1 else math.nan
    side = scores.side(cell, 1.0)
    try:
        table = by_patient(rows, scores.patients or [""] * rows.shape[1])
        effect = crossed_effect(table if side.draws is None else by_draw(table, side.draws))
    except InputError:  # one seed and one patient, or no volume that all have
        mean = float(means.mean()) if rows.size else math.nan
        return {"mean": mean, "low": math.nan, "high": math.nan, "sd_seeds": sd}
    return {"mean": effect.mean, "low": effect.low, "high": effect.high, "sd_seeds": sd}


# ---- tell in sentences what a study shows: the leader, what is not settled, how each family came out


_NO_LEADER = "No cell leads yet: fewer than two cells have all of their reruns."
_FEW = 3  # cells that are named one by one
_SAYING = (  # verdict, size of the difference (empty: any), in words
    *((found, BY_MORE, f"{found.lower()} {BY_MORE}") for found in (BETTER, WORSE)),
    *((found, "", found.lower()) for found in (BETTER, WORSE)),
    (EQUIVALENT, "", "equivalent within the margin"),
    (UNDECIDED, NOT_WORSE, f"undecided, but {NOT_WORSE}"),
    (UNDECIDED, NOT_BETTER, f"undecided, but {NOT_BETTER}"),
)


def verdict(study: Mapping[str, Any], scores: Sequence[RerunScores], margin: Margin | None, alpha: float) -> list[str]:
    """Sentences on which cell leads, which are not distinguishable from it, and how each family came out.

    Args:
        study: With its `cells`, `families`, `zero_filled` and `conditional`.
        scores: Test SSIM, at each acceleration.
        margin: Of equivalence.
        alpha: Of each family.
    """
    cells = {cell["cell"]: cell for cell in study["cells"]}
    said = [sentence for of_one in scores for sentence in _leading(cells, of_one, margin, alpha)] or [_NO_LEADER]
    compared = [family for family in study["families"] if family["comparisons"]]
    said += [_family(family) for family in compared]
    if margin is not None:
        said.append(f"Differences within {margin.value:.3g} SSIM count as none ({margin.source}).")
    said += [*(_reach(scores[0]) if scores else []), *_caveats(cells, scores)]
    return [*said, f"All of this is {study['conditional']}."] if compared and study["conditional"] else said


def _leading(cells: Mapping[str, Any], scores: RerunScores, margin: Margin | None, alpha: float) -> list[str]:
    found = leader(scores, margin, alpha)
    at = f"At {scores.at}: " if scores.at else ""
    if found is None:
        return [f"{at}{_NO_LEADER}"]
    name, ahead = found
    mean = scores.values[name].mean()
    said = [
        f"{at}{name} has the highest mean test SSIM, {mean:.4f}, over {_count(len(scores.seeds), 'seed')}, "
        f"{_count(len(scores.volumes), 'test volume')} and {_count(len(set(scores.patients or ())), 'patient')}."
    ]
    near = [gap for gap in ahead if gap.low <= 0]
    far = [gap for gap in ahead if gap.low > 0]
    n_pairs = ahead[0].n_comparisons
    pairs = f"all {n_pairs} pairs of cells compared together" if n_pairs > 1 else "the pair of cells compared"
    together = f"with {pairs} at the {100 * alpha:.3g} % level"
    if refused := sorted({gap.refused for gap in ahead if gap.refused}):
        said.append(f"Whether it leads for other seeds and patients is not said, since {'; '.join(refused)}.")
    elif near:
        said.append(f"Not settled (zero in the interval), {together}: {_named(near)}.")
    if far and not refused:
        said.append(f"It is ahead of {_nearest(far)}{'' if near else f', {together}'}.")
    unranked = sorted(set(cells) - {name, *(gap.name for gap in ahead)})
    return [*said, f"Not ranked, since reruns are left out or missing: {', '.join(unranked)}."] if unranked else said


def _named(gaps: Sequence[Comparison]) -> str:
    """All by name, with their distances while these can be read."""
    if len(gaps) <= 2 * _FEW:
        return ", ".join(map(_distance, gaps))
    return f"{', '.join(gap.name for gap in gaps)}; the last is behind by {_span(gaps[-1])}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _distance(gap: Comparison) -> str:
    return f"{gap.name} (by {_span(gap)})"


def _span(gap: Comparison) -> str:
    return f"{gap.effect:.4f}, {gap.low:.4f} to {gap.high:.4f}"


def _nearest(gaps: Sequence[Comparison]) -> str:
    if len(gaps) <= _FEW:
        return ", ".join(map(_distance, gaps))
    return f"{len(gaps)} others, from {_distance(gaps[0])} to {_distance(gaps[-1])}"


def _family(family: Mapping[str, Any]) -> str:
    """Say what was found in a family, by name and effect, and how many comparisons are undecided."""
    parts, left = [], list(family["comparisons"])
    for found, size, saying in _SAYING:
        chosen = [c for c in left if c["verdict"] == found and (c["size"] == size or not size)]
        left = [c for c in left if c not in chosen]
        if chosen:
            parts.append(f"{saying}: {', '.join(map(_effect, chosen))}")
    if family["refused"]:
        parts.append(f"no verdicts, since {family['refused']}")
    elif refused := [c["name"] for c in left if c["verdict"] == NO_VERDICT]:
        parts.append(f"no verdict: {', '.join(refused)}")
    if n_undecided := sum(c["verdict"] == UNDECIDED for c in left):
        rest = "otherwise " if parts else ""
        parts.append(f"{rest}undecided: {n_undecided} of {len(family['comparisons'])}")
    role = "" if family["is_primary"] else " (secondary)"
    return f"{family['name'][0].upper()}{family['name'][1:]}{role}: {'; '.join(parts)}."


def _effect(comparison: Mapping[str, Any]) -> str:
    at = f" at {comparison['at']}" if comparison["at"] else ""
    name = f"{comparison['first']}{at}" if len(comparison["cells"]) == 2 else comparison["name"]
    return f"{name} ({comparison['effect']:+.3g}, {comparison['low']:+.3g} to {comparison['high']:+.3g})"


def _reach(scores: RerunScores) -> list[str]:
    """Return what the intervals do not cover, with few seeds or patients."""
    if not scores.values:
        return []
    n_patients, said = len(set(scores.patients or ())), []
    if len(scores.seeds) < MIN_SEEDS:
        said.append(f"A verdict about other seeds takes {MIN_SEEDS} of them: this is about these runs.")
    if n_patients < MIN_PATIENTS:
        said.append(f"With {n_patients} patients the intervals are wide, and say little about other patients.")
    return said


def _caveats(cells: Mapping[str, Any], scores: Sequence[RerunScores]) -> list[str]:
    """Return the sentences on cells that diverged, whose best trial lies at an edge, or that failed."""
    said = []
    if diverged := [f"{name} ({_share(c['divergence'])})" for name, c in cells.items() if c["n_diverged"]]:
        excluded = bool(scores) and scores[0].are_excluded
        rest = "they are left out, and nothing is said in favour of these cells" if excluded else _AS_ZERO_FILLED
        said.append(f"Reruns diverged in {', '.join(diverged)}: {rest}.")
    if edges := [f"{name} ({c['edge']})" for name, c in cells.items() if c["edge"]]:
        said.append(
            f"The best trial lies at the edge of its range, so that more may be possible, in {', '.join(edges)}."
        )
    if failed := [name for name, c in cells.items() if c["error"]]:
        said.append(f"Runs failed in {', '.join(failed)}.")
    return said


_AS_ZERO_FILLED = "each scores as the zero-filled image"


def _share(divergence: Mapping[str, Any]) -> str:
    low, high = (100 * divergence[end] for end in ("low", "high"))
    return f"{divergence['n']} of {divergence['of']}, 95 % interval {low:.0f} to {high:.0f} %"
