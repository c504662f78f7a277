"""The stream of training batches is a pure function of its number."""

from collections import Counter

import numpy as np
import pytest

from mrirecon.data.stream import BatchStream

SHAPES = [(8, 8)] * 7 + [(8, 6)] * 4


@pytest.mark.parametrize("batch_size", [1, 2, 3, 20])
def test_an_epoch_holds_every_slice_once_and_batches_of_one_shape(batch_size):
    stream = BatchStream(SHAPES, batch_size, seed=3)
    batches = list(stream)
    assert len(batches) == len(stream) == stream.batches_per_epoch
    assert Counter(i for batch in batches for i, _ in batch) == Counter(range(11))
    for batch in batches:
        assert len(batch) <= batch_size
        assert len({SHAPES[i] for i, _ in batch}) == 1


def test_starting_later_gives_the_rest_of_the_same_stream():
    whole = list(BatchStream(SHAPES, 2, n_batches=20, seed=1))
    for start in (0, 1, 6, 13, 19):
        later = BatchStream(SHAPES, 2, n_batches=20, seed=1)
        later.start = start
        assert list(later) == whole[start:]


def test_order_and_masks_change_between_epochs_and_seeds():
    stream = BatchStream(SHAPES, 2, seed=1)
    first, second, other = stream.epoch(0), stream.epoch(1), BatchStream(SHAPES, 2, seed=2).epoch(0)
    assert first != second
    assert first != other
    assert {seed for batch in first for _, seed in batch}.isdisjoint({s for batch in second for _, s in batch})


def test_global_random_state_is_left_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    list(BatchStream(SHAPES, 2))
    assert (np.random.get_state()[1] == before).all()


def test_ranks_share_an_epoch_without_overlap():
    shares = [BatchStream([(8, 8)] * 12, 2, seed=1, rank=r, world_size=3).epoch(4) for r in range(3)]
    slices = [i for share in shares for batch in share for i, _ in batch]
    assert sorted(slices) == list(range(12))


def test_a_plain_trainer_gets_another_order_each_epoch():
    stream = BatchStream(SHAPES, 2, seed=1)
    first = list(stream)
    stream.set_epoch(1)
    assert list(stream) != first
    assert list(stream) == stream.epoch(1)


@pytest.mark.parametrize("accumulate", [2, 3, 5])
def test_weights_make_a_step_the_mean_over_its_slices(accumulate):
    stream = BatchStream(SHAPES, 2, n_batches=15, seed=1)
    batches = list(stream)
    value = {i: float(i) ** 2 for i in range(11)}  # any per-slice loss
    for first in range(0, 15, accumulate):
        window = range(first, min(first + accumulate, 15))
        means = [np.mean([value[i] for i, _ in batches[n]]) * stream.weight(n, accumulate) for n in window]
        slices = [value[i] for n in window for i, _ in batches[n]]
        assert sum(means) / accumulate == pytest.approx(np.mean(slices))
