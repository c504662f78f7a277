"""How slices are handed out to processes."""

from contextlib import contextmanager

import pytest
import torch

from mrirecon.data.loading.batch_order import BatchStream
from mrirecon.data.loading.loaders import StreamLoader, UnitLoader
from mrirecon.data.samples import Sample


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


class Samples(torch.utils.data.Dataset):
    def __getitem__(self, index):
        numbers = [torch.full((4, 4), float(index[0])) + k for k in range(len(Sample._fields))]
        return Sample(*numbers)._replace(volume=f"v{index[0]}", slice_idx=index[0], mask_id="random", crop_shape=())


@pytest.fixture
def fake_gpu(monkeypatch):
    """Streams and tensor methods of a GPU that only note, in order, what is asked of them."""
    said, running = [], ["working"]

    class Stream:
        def __init__(self, _device=None, name="copying"):
            self.name = name

        def wait_stream(self, other):
            said.append((self.name, "waits for", other.name))

    @contextmanager
    def stream(entered):
        running.append(entered.name)
        yield
        running.pop()

    original = torch.Tensor.to

    def to(tensor, device, non_blocking=False):
        if torch.device(device).type == "cpu":
            return original(tensor, device)
        said.append(("copied", float(tensor.sum()), running[-1], non_blocking))
        return tensor + 0

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device=None: Stream(name=running[-1]))
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(
        torch.Tensor, "pin_memory", lambda tensor: said.append(("locked", float(tensor.sum()))) or tensor + 0
    )
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda tensor, by: said.append(("kept for", float(tensor.sum()), by.name))
    )
    return said


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_copied_to_a_gpu_beside_its_work(fake_gpu, workers):
    """Every tensor: page-locked, copied on another stream, for which the working one waits."""
    loader = StreamLoader(Samples(), BatchStream([(4, 4)] * 5, 2), workers)
    plain = list(loader)
    assert fake_gpu == []
    loader.for_gpu = True
    for batch, expected in zip(loader, plain, strict=True):
        sums = [float(value.sum()) for value in expected if isinstance(value, torch.Tensor)]
        assert len(sums) > 6
        assert fake_gpu == [
            *(("locked", total) for total in sums),
            *(("copied", total, "copying", True) for total in sums),
            ("working", "waits for", "copying"),
            *(("kept for", total, "working") for total in sums),
        ]
        fake_gpu.clear()
        for a, b in zip(batch, expected, strict=True):
            assert torch.equal(a, b) if isinstance(b, torch.Tensor) else list(a) == list(b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_a_busy_gpu_gets_is_what_was_loaded():
    """Copies run while it multiplies; their memory is used again."""
    loader = StreamLoader(Samples(), BatchStream([(4, 4)] * 64, 2))
    plain = list(loader)
    loader.for_gpu = True
    matrix, sums = torch.randn(4096, 4096, device="cuda"), []
    for batch in loader:
        for _ in range(5):
            matrix = torch.nn.functional.normalize(matrix @ matrix)
        sums.append(batch.image.double().sum())
        del batch
    assert [float(value) for value in sums] == [float(batch.image.double().sum()) for batch in plain]


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
