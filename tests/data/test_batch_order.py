"""The stream of training batches is a pure function of its number."""

from collections import Counter

import numpy as np
import pytest

from mrirecon.data.loading.batch_order import BatchStream

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


def shares(shapes, batch_size, world_size, **options):
    return [BatchStream(shapes, batch_size, rank=r, world_size=world_size, **options) for r in range(world_size)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 16])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_ranks_share_an_epoch_without_overlap(batch_size, world_size):
    """But for batches that weigh nothing, which only keep a process busy."""
    for stream in (streams := shares(SHAPES, batch_size, world_size, seed=1)):
        assert len(list(stream)) == len(stream) == streams[0].batches_per_epoch
        assert all(0 < len(batch) <= batch_size for batch in stream)
    counted = [i for s in streams for k, batch in enumerate(s) if s.weight(k, 1) for i, _ in batch]
    assert sorted(counted) == list(range(11))


@pytest.mark.parametrize(("batch_size", "world_size"), [(4, 1), (2, 2), (1, 4)])
def test_processes_with_smaller_batches_see_what_one_process_sees(batch_size, world_size):
    """In the same steps, with the same masks; over several epochs."""
    whole = list(BatchStream(SHAPES, 4, 20, seed=3))
    streams = shares(SHAPES, batch_size, world_size, n_batches=20, seed=3)
    for k, parts in enumerate(zip(*streams, strict=True)):
        counted = [part for stream, part in zip(streams, parts, strict=True) if stream.weight(k, 1)]
        assert [item for part in counted for item in part] == whole[k]
        sizes = [len(part) for part in counted]
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)


def test_masks_differ_between_processes_and_epochs_and_come_again():
    streams = shares(SHAPES, 1, 2, n_batches=24, seed=3)
    seeds = [seed for stream in streams for k, batch in enumerate(stream) if stream.weight(k, 1) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)
    assert [list(stream) for stream in shares(SHAPES, 1, 2, n_batches=24, seed=3)] == [list(s) for s in streams]


@pytest.mark.parametrize("accumulate", [1, 2, 3, 5])
@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_weights_make_a_step_the_mean_over_the_slices_of_all_processes(accumulate, world_size):
    """A step's gradient is the mean over processes of the sum over its batches, over `accumulate`."""
    streams = shares(SHAPES, 2, world_size, n_batches=14, seed=1)
    value = {i: float(i) ** 2 for i in range(11)}  # any per-slice loss
    batches = [list(stream) for stream in streams]
    for first in range(0, 14, accumulate):
        window = range(first, min(first + accumulate, 14))
        weighted = [
            np.mean([value[i] for i, _ in batches[r][n]]) * stream.weight(n, accumulate)
            for r, stream in enumerate(streams)
            for n in window
        ]
        slices = [
            value[i]
            for r, stream in enumerate(streams)
            for n in window
            if stream.weight(n, 1)
            for i, _ in batches[r][n]
        ]
        assert sum(weighted) / accumulate / world_size == pytest.approx(np.mean(slices))


def test_weights_follow_the_epochs_of_a_plain_trainer():
    stream = BatchStream(SHAPES, 2, seed=1, rank=1, world_size=2)
    for epoch in range(4):
        stream.set_epoch(epoch)
        for k, size in enumerate(len(group) for group in BatchStream(SHAPES, 4, seed=1).epoch(epoch)):
            assert stream.size(k) == size
            assert stream.weight(k, 1) == size // 2 * 2 / size


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


def test_seeds_of_augmentation_leave_order_and_masks_as_they_are():
    plain, augmented = (BatchStream(SHAPES, 2, 20, seed=1, fixed_masks=True, augmented=a) for a in (False, True))
    assert [[item[:2] for item in batch] for batch in augmented] == list(plain)
    seeds = [seed for batch in augmented for _, _, seed in batch]
    assert len(set(seeds)) == len(seeds)  # over three epochs, of slices that keep their masks
    later = BatchStream(SHAPES, 2, 20, seed=1, fixed_masks=True, augmented=True)
    later.start = 13
    assert list(later) == list(augmented)[13:]
    streams = shares(SHAPES, 1, 2, n_batches=20, seed=1, fixed_masks=True, augmented=True)
    for whole, *parts in zip(augmented, *streams, strict=True):
        assert {item for part in parts for item in part} == set(whole)
