"""How slices are handed out to processes."""

import pytest
import torch

from mrirecon.data.loading.loaders import StreamLoader, UnitLoader
from mrirecon.data.loading.stream import BatchStream


class Numbers(torch.utils.data.Dataset):
    def __getitem__(self, index):
        return index[0] if isinstance(index, tuple) else index


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 9])
def test_units_are_shared_once_and_in_order(world_size):
    units = [[0, 1], [2], [3, 4, 5], [6], [7]]
    loaders = [UnitLoader(Numbers(), units, 0, [2, 1, 3, 1, 1], r, world_size) for r in range(world_size)]
    assert all(len(loader) == len(list(loader)) > 0 for loader in loaders)
    assert {loader.n_rounds for loader in loaders} == {max(len(loader) for loader in loaders)}
    handed_out = [unit.tolist() for loader in loaders for unit in loader]
    unique = [unit for k, unit in enumerate(handed_out) if unit not in handed_out[:k]]
    assert sorted(unique) == units
    if world_size <= 2:
        assert handed_out == units


def test_a_process_without_units_repeats_one():
    assert [unit.tolist() for unit in UnitLoader(Numbers(), [[4, 5]], 0, [1], 2, 3)] == [[4, 5]]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_for_a_gpu_are_page_locked_whole(monkeypatch, workers):
    """Every tensor of a batch, in lists too, once; where there is no GPU nothing is. The locking itself needs one."""
    locked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: locked.append(tensor.shape) or tensor + 0)

    class Samples(torch.utils.data.Dataset):
        def __getitem__(self, index):
            return torch.full((4, 4), float(index[0])), f"v{index[0]}", (index[0], 7)

    loader = StreamLoader(Samples(), BatchStream([(4, 4)] * 5, 2), workers)
    plain = list(loader)
    assert locked == []
    loader.for_gpu = True
    pinned = list(loader)
    assert len(locked) == 3 * len(plain) == 9  # an image and two numbers of each batch
    for a, b in zip(plain, pinned, strict=True):
        assert torch.equal(a[0], b[0])
        assert list(a[1]) == list(b[1])
        assert all(torch.equal(x, y) for x, y in zip(a[2], b[2], strict=True))


def test_the_time_of_waiting_is_that_of_reading(monkeypatch):
    """A clock that reading moves on by 5, and the work between two batches by 100."""
    now = [0.0]
    monkeypatch.setattr("mrirecon.data.loading.loaders.time.monotonic", lambda: now[0])

    class Slow(torch.utils.data.Dataset):
        def __getitem__(self, index):
            now[0] += 5
            return index[0]

    loader = StreamLoader(Slow(), BatchStream([(4, 4)] * 6, 2))
    for _ in loader:
        now[0] += 100
    assert loader.waited_s == 6 * 5
