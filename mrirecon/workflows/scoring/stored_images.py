"""The loop behind `mrirecon score`: stored images against stored references, slice by slice."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mrirecon.data.images import Images, Reference
from mrirecon.errors import InputError
from mrirecon.evaluation.metrics import SliceScore, VolumeScore, combine_slices, score_slice
from mrirecon.evaluation.resemblance import Comparison, Resemblance
from mrirecon.physics import center_crop
from mrirecon.progress import progress
from mrirecon.tables.metrics import OBJECT_MASK, chosen_metrics, needed
from mrirecon.workflows.scoring.prediction_pairs import Pair


class PairScore(NamedTuple):
    """Scores of one volume, and how the images lie against their targets."""

    score: VolumeScore
    mse: float  # squared units of the target; NaN where no metric needs it
    resemblance: Resemblance


def score_pairs(pairs: Sequence[Pair], label: str, metrics: Sequence[str] | None = None) -> list[PairScore]:
    """The score of each pair by `metrics` (None: the default ones); one slice is in memory at a time.

    Raises:
        InputError: Samples that cannot be read, are not finite, or a target without a positive value.
    """
    names = chosen_metrics(metrics)
    return [_score(pair, names) for pair in progress(pairs, label, unit="volumes")]


def _score(pair: Pair, metrics: Sequence[str]) -> PairScore:
    target, prediction, grid = pair
    data_range = _data_range(pair)
    slices: list[SliceScore] = []
    comparison = Comparison()
    for i in range(target.shape[0]):
        wanted, image = _cut(target, i, grid), _cut(prediction, i, grid)
        mask = _object_mask(target, i, grid) if needed(metrics, OBJECT_MASK) else None
        slices.append(score_slice(wanted, image, data_range, metrics, mask))
        comparison.add(wanted.numpy(), image.numpy())
    mse = math.nan
    if "squared_error" in slices[0].columns:
        mse = sum(s.columns["squared_error"] for s in slices) / sum(s.columns["n_pixels"] for s in slices)
    return PairScore(combine_slices(slices, data_range), mse, comparison.result())


def _data_range(pair: Pair) -> float:
    """Maximum of the target over all slices, inside the grid that is scored."""
    target = pair.target
    largest = max(float(_cut(target, i, pair.grid).max()) for i in range(target.shape[0]))
    if largest <= 0:
        raise InputError(f"{target.label}: {target.key} has no positive value; write it anew or remove it")
    return largest


def _object_mask(target: Reference, i: int, grid: tuple[int, int]) -> Tensor | None:
    masks = target.object_masks
    return None if masks is None else center_crop(torch.from_numpy(masks.image(i) != 0), grid)


def _cut(images: Images, i: int, grid: tuple[int, int]) -> Tensor:
    return center_crop(torch.from_numpy(images.image(i)), grid)
