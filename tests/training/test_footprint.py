"""Bytes of optimizer states in closed form, and a peak of memory that was really taken."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mrirecon.models.memory import keep_freed_memory
from mrirecon.training import footprint
from mrirecon.training.footprint import PeakMemory, optimizer_bytes
from mrirecon.training.recipe.optimizers import make_optimizer

MIB = 2**20
# tensors of the size of each parameter that the method's own formula keeps
STATES = {
    "sgd": 0,
    "momentum": 1,
    "nesterov": 1,
    "rmsprop": 1,
    "adagrad": 1,
    "lion": 1,
    "adam": 2,
    "adamw": 2,
    "nadamw": 2,
    "lamb": 2,
    "amsgrad": 3,
    "madgrad": 3,
}


@pytest.mark.parametrize("name", STATES)
def test_bytes_of_the_state_in_closed_form(name):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(5, 7))
    n_bytes = 4 * (4 * 1 * 3 * 3 + 4 + 5 * 7 + 7)
    optimizer = make_optimizer(name, model, 1e-3)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert optimizer_bytes(optimizer) == STATES[name] * n_bytes


def test_nothing_is_kept_before_the_first_step():
    assert optimizer_bytes(torch.optim.Adam([nn.Parameter(torch.zeros(3))])) == 0


def held(mebibytes):
    """Touches every page of so much memory and lets it go."""
    return np.ones(mebibytes * MIB // 8)[-1]


def test_the_peak_holds_what_was_taken_inside_and_not_what_was_before():
    """Also where the process keeps freed memory, as every training on a CPU lets it."""
    if not keep_freed_memory():
        pytest.skip("only glibc is asked to give kept memory back")
    held(300)
    with PeakMemory() as resting:
        pass
    with PeakMemory() as peak:
        held(100)
    if peak.since_start:
        pytest.skip("this system does not let a process set its high-water mark back")
    assert 95 * MIB < peak.bytes - resting.bytes < 200 * MIB


def test_without_permission_it_is_the_peak_since_the_process_began(tmp_path, monkeypatch):
    monkeypatch.setattr(footprint, "_CLEAR", tmp_path / "absent" / "clear_refs")
    with PeakMemory() as first:
        held(50)
    with PeakMemory() as second:
        pass
    assert first.since_start
    assert second.bytes >= first.bytes > 50 * MIB


def test_the_peak_of_work_that_fails_is_known_too():
    peak = PeakMemory()
    with pytest.raises(ZeroDivisionError), peak:
        1 / 0  # noqa: B018
    assert peak.bytes > MIB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_peak_on_a_gpu_is_that_of_its_tensors():
    with PeakMemory("cuda") as peak:
        torch.ones(10 * MIB, device="cuda")
    assert peak.bytes >= 40 * MIB


def test_the_memory_of_the_machine(tmp_path, monkeypatch):
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = 1024 * int(meminfo["MemTotal"].split()[0])
    assert 0 < footprint.machine_memory() <= total
    for text, expected in (("max\n", total), ("1048576\n", 2**20), (f"{2**62}\n", total), ("", total)):
        (tmp_path / "memory.max").write_text(text)
        monkeypatch.setattr(footprint, "_CGROUPS", (tmp_path / "none", tmp_path / "memory.max"))
        assert footprint.machine_memory() == expected
    assert footprint.memory_of("cpu") == f"this machine has {total / 2**30:.1f} GiB"
