"""Memory in bytes: of an optimizer's state, the peak of a piece of work, and of the machine."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from torch.optim import Optimizer

from mrirecon.models.memory import give_back_freed_memory

_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def optimizer_bytes(optimizer: Optimizer) -> int:
    """Count the bytes of the tensors that `optimizer` keeps between steps, 0 before the first one.

    Tensors without axes, such as Adam's counters of steps, are left out: they do not grow with the network.
    """
    tensors = {id(t): t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)}
    return sum(t.nbytes for t in tensors.values() if t.ndim > 0)


def machine_memory(device: str = "cpu") -> int:
    """Return the bytes of memory of this machine (at most what its control group allows), or of the GPU."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in _CGROUPS:
        with suppress(OSError, ValueError):  # no such control group, or `max`
            found = min(found, int(file.read_text()))
    return found


def memory_of(device: str) -> str:
    """Say how much memory there is."""
    return f"{'the GPU' if device == 'cuda' else 'this machine'} has {as_gib(machine_memory(device))}"


def as_gib(n: int) -> str:
    """Format a number of bytes in GiB (2^30 bytes)."""
    return f"{n / 2**30:,.1f} GiB"


class PeakMemory:
    """Context that measures the peak memory of the work in it: `bytes` after it has ended.

    On a CPU it is the resident memory of the whole process, libraries included. Linux's own mark is set back at the
    start (`clear_refs`), and freed memory that the process has kept is given back, so that earlier work in it does not
    count; where that is not allowed, `bytes` is the peak since the process began, and `since_start` is true. On a GPU
    it is what torch's tensors took there.

    Args:
        device: Where the work runs.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.bytes, self.since_start = 0, False

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self.since_start = not _set_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
        else:
            self.bytes = _peak_since_start() if self.since_start else _high_water_mark()


def _set_back() -> bool:
    """Set the high-water mark to what is in use now; False where the system does not allow it."""
    give_back_freed_memory()  # trainings on a CPU let the process keep it
    try:
        _CLEAR.write_text("5")
        return _high_water_mark() > 0
    except OSError:
        return False


def _high_water_mark() -> int:
    lines = _STATUS.read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _peak_since_start() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
