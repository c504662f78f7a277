"""The loop behind `mrirecon score`: stored images against stored references, slice by slice."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mrirecon.data.references import Images
from mrirecon.errors import InputError
from mrirecon.evaluation.metrics import SliceScore, VolumeScore, combine_slices, score_slice
from mrirecon.evaluation.resemblance import Comparison, Resemblance
from mrirecon.physics import center_crop
from mrirecon.progress import progress
from mrirecon.workflows.pairs import Pair


class PairScore(NamedTuple):
    """Scores of one volume, and how the images lie against their targets."""

    score: VolumeScore
    mse: float  # squared units of the target
    resemblance: Resemblance


def score_pairs(pairs: Sequence[Pair], label: str) -> list[PairScore]:
    """The score of each pair; one slice is in memory at a time.

    Raises:
        InputError: Samples that cannot be read, are not finite, or a target without a positive value.
    """
    return [_score(pair) for pair in progress(pairs, label, unit="volumes")]


def _score(pair: Pair) -> PairScore:
    target, prediction, grid = pair
    data_range = _data_range(pair)
    slices: list[SliceScore] = []
    comparison = Comparison()
    for i in range(target.shape[0]):
        wanted, image = _cut(target, i, grid), _cut(prediction, i, grid)
        slices.append(score_slice(wanted, image, data_range))
        comparison.add(wanted.numpy(), image.numpy())
    mse = sum(s.squared_error for s in slices) / sum(s.n_pixels for s in slices)
    return PairScore(combine_slices(slices, data_range), mse, comparison.result())


def _data_range(pair: Pair) -> float:
    """Maximum of the target over all slices, inside the grid that is scored."""
    target = pair.target
    largest = max(float(_cut(target, i, pair.grid).max()) for i in range(target.shape[0]))
    if largest <= 0:
        raise InputError(f"{target.label}: {target.key} has no positive value; write it anew or remove it")
    return largest


def _cut(images: Images, i: int, grid: tuple[int, int]) -> Tensor:
    return center_crop(torch.from_numpy(images.image(i)), grid)
