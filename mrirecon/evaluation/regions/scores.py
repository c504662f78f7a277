"""Scores inside boxes or masks, for what readers look at rather than the whole image: their table, and means by label.

Of each region: the mean of the slice's SSIM map (Wang et al. 2004) over the windows whose centre lies inside, PSNR with
the data range of the volume, and NMSE, both over its pixels.
"""

import csv
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from mrirecon.evaluation.metrics import SlicePair, Target, score_pair, similarity_inside, volume_score
from mrirecon.evaluation.regions.annotations import Box
from mrirecon.evaluation.results import ZERO_FILLED
from mrirecon.evaluation.stats import bootstrap_ci
from mrirecon.evaluation.summary import LEVEL
from mrirecon.files import replacing
from mrirecon.tables.metrics import METRICS

METRICS_INSIDE = tuple(name for name, metric in METRICS.items() if metric.in_boxes)
_OF_PIXELS = tuple(name for name in METRICS_INSIDE if METRICS[name].smallest == 1)  # SSIM is of windows
_ABOUT = ("file", "slice_idx", "label", "x", "y", "width", "height")


@dataclass(frozen=True)
class RegionResult:
    """Scores inside one box under one mask; a row of regions.csv."""

    box: Box
    patient: str
    mask_draw: int
    n_windows: int  # SSIM windows whose centre lies inside
    scores: Mapping[str, float]  # by metric; SSIM is NaN without such a window
    zero_filled: Mapping[str, float]


def score_box(pair: SlicePair, box: Box, mask: np.ndarray | None = None) -> tuple[dict[str, float], int]:
    """Score a region of a slice by `METRICS_INSIDE`; also the number of SSIM windows whose centre lies inside.

    Args:
        pair: The whole slice, as windows reach over the box.
        box: Inside of the image.
        mask: Where the region is, bool `(h, w)` of the image; None: all of the box.
    """
    target = pair.target
    inside = np.zeros(target.values.shape, dtype=bool)
    inside[box.pixels] = True
    if mask is not None:
        inside &= mask
    total, n_windows = similarity_inside(pair, inside)
    cut = SlicePair(Target(target.values[inside][None], target.data_range), pair.image[inside][None])
    sums = score_pair(cut, _OF_PIXELS).columns
    scores = {"ssim": total / n_windows if n_windows else math.nan}
    scores |= volume_score(_OF_PIXELS, sums, 1, target.data_range).scores
    return {name: scores[name] for name in METRICS_INSIDE}, n_windows


def write_regions(path: Path, results: Iterable[RegionResult]) -> None:
    """Write regions.csv: a row per box and mask draw; floats keep all their digits, `y` is of the array as stored."""
    columns = [
        *(name.removesuffix("_idx") for name in _ABOUT),
        "mask_draw",
        *METRICS_INSIDE,
        *(ZERO_FILLED + name for name in METRICS_INSIDE),
    ]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow([*columns, "patient", "n_windows", "annotation"])
        for result in results:
            about = [getattr(result.box, name) for name in _ABOUT]
            scores = [values[name] for values in (result.scores, result.zero_filled) for name in METRICS_INSIDE]
            writer.writerow(
                [*about, result.mask_draw, *scores, result.patient, result.n_windows, result.box.annotation]
            )


def means_by_label(results: Sequence[RegionResult], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Describe the boxes of each label, ready for JSON; the labels in the order of the alphabet.

    `n_boxes`, `n_patients`, and of each score, of the zero-filled image's (`zf_...`) and of their difference
    (`difference_...`): `mean` and `sd` over boxes (a box counts with the mean over its draws), and the 95 % interval of
    the mean over patients `low`, `high` (see `bootstrap_ci`; from 5 patients on). SSIM is that of the `n_ssim` boxes
    which have it. What cannot be computed is null.
    """
    groups: dict[str, list[RegionResult]] = {}
    for result in results:
        groups.setdefault(result.box.label, []).append(result)
    return {label: _describe(groups[label], seed) for label in sorted(groups)}


def _describe(results: Sequence[RegionResult], seed: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "n_boxes": len({result.box for result in results}),
        "n_patients": len({result.patient for result in results}),
        "n_ssim": len({result.box for result in results if result.n_windows}),
    }
    for name in METRICS_INSIDE:
        rows = [result for result in results if name != "ssim" or result.n_windows]
        own, reference = [r.scores[name] for r in rows], [r.zero_filled[name] for r in rows]
        described[name] = _statistics(rows, own, seed)
        described[ZERO_FILLED + name] = _statistics(rows, reference, seed)
        described[f"difference_{name}"] = _statistics(rows, list(map(operator.sub, own, reference)), seed)
    return described


def _statistics(results: Sequence[RegionResult], values: Sequence[float], seed: int) -> dict[str, float | None]:
    if not values or not all(map(math.isfinite, values)):
        return dict.fromkeys(("mean", "sd", "low", "high"))
    by_box: dict[Box, list[float]] = {}
    for result, number in zip(results, values, strict=True):
        by_box.setdefault(result.box, []).append(number)
    means = [fmean(draws) for draws in by_box.values()]
    interval = bootstrap_ci(values, [result.patient for result in results], LEVEL, seed)
    return {
        "mean": fmean(means),
        "sd": stdev(means) if len(means) > 1 else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
    }
