"""The processes that work together on one job, and the little they say to each other. No torch at import.

Outside a group there is one process, rank 0 of 1, and everything here costs nothing.
"""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mrirecon.errors import AgreedError, InputError, explained

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
is_program = False  # this process is one command of the command line, and ends with it
_PORTION_S = 20.0  # while the first one works on, the others hear of it: a group has limited patience


def rank() -> int:
    """Number of this process in its group."""
    return _group().get_rank() if in_group() else 0


def world_size() -> int:
    """Number of processes in the group."""
    return _group().get_world_size() if in_group() else 1


def is_first() -> bool:
    """This process prints, and writes what is written once."""
    return rank() == 0


def in_group() -> bool:
    """This process has joined others."""
    return "torch" in sys.modules and _group().is_available() and _group().is_initialized()


def barrier() -> None:
    """Wait until every process is here."""
    any_of(False)


def any_of(flag: bool) -> bool:
    """Return whether `flag` is set on any process; all get the same answer."""
    return flag if not in_group() else _agree("", int(flag)) > 0


def sum_of(values: Sequence[float]) -> list[float]:
    """Sums over the processes, in double precision; all get the same numbers."""
    if not in_group():
        return [float(value) for value in values]
    import torch

    summed = torch.tensor(list(values), dtype=torch.float64, device=_device())
    _group().all_reduce(summed)
    return list(summed.tolist())


def from_first(make: Callable[[], T]) -> T:
    """Call `make` on the first process alone and return its result on all: plain values that JSON can hold.

    Raises:
        InputError: From `make`; with several processes all of them raise it.
    """
    if not in_group():
        return make()
    text, fault = b"", ""
    if is_first():
        try:
            text = json.dumps(make()).encode()
        except AgreedError:  # all have raised it
            raise
        except InputError as error:
            fault = str(error) or "wrong input"
    value: T = json.loads(_broadcast(text, _agree(fault, len(text))))
    return value


def stream_from_first(make: Callable[[], Iterable[T]]) -> Iterator[T]:
    """The values that `make` gives on the first process, one after the other, in portions while it works on.

    Raises:
        InputError: As `from_first`; what was given before has come.
    """
    if not in_group():
        yield from make()
        return
    source, is_done = iter(make() if is_first() else ()), False
    while not is_done:
        is_done, values = from_first(lambda: _portion(source))
        yield from values


def _portion(source: Iterator[T]) -> tuple[bool, list[T]]:
    until, values = time.monotonic() + _PORTION_S, list[T]()
    for value in source:
        values.append(value)
        if time.monotonic() > until:
            return False, values
    return True, values


@contextmanager
def agreeing() -> Iterator[None]:
    """Raise an error of one process on all of them, so that none waits for one that is gone.

    They meet at the end of the block, or where they talk inside it, which they may do by all of this module but sums
    and gathered rows.

    Raises:
        InputError: That of the first process that has one; where it is not process 0, its place stands before it.
    """
    if not in_group():
        yield
        return
    try:
        yield
    except AgreedError:
        raise
    except Exception as error:
        said = error if isinstance(error, InputError) else explained(error)
        if not isinstance(said, InputError):
            raise
        text = str(said) or "wrong input"
        _agree(text if is_first() else f"process {rank()} of {world_size()} (on {socket.gethostname()}): {text}")
    else:
        _agree("")


def _agree(fault: str, number: int = 0) -> int:
    """The sum of `number` over the processes, unless any of them has a fault: then all raise that one."""
    text = fault.encode()
    lengths = [0] * world_size()
    lengths[rank()] = len(text)
    n, *faulty = (int(length) for length in sum_of([number, *lengths]))
    if any(faulty):
        source = next(r for r, length in enumerate(faulty) if length)
        raise AgreedError(_broadcast(text, faulty[source], source).decode())
    return n


def _broadcast(data: bytes, size: int, source: int = 0) -> bytes:
    """The `size` bytes `data` of the process `source`, on every process."""
    import torch

    is_source = rank() == source
    buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8) if is_source else torch.empty(size, dtype=torch.uint8)
    buffer = buffer.to(_device())
    _group().broadcast(buffer, src=source)
    return buffer.cpu().numpy().tobytes()


def gather_rows(rows: "Tensor") -> "Tensor":
    """The rows `(n, columns)` of all processes below each other, in the order of the ranks; n may differ, and be 0.

    The parts travel padded: `all_gather` takes tensors of one shape
    (https://docs.pytorch.org/docs/stable/distributed.html).
    """
    if not in_group():
        return rows
    import torch

    counts = [0.0] * world_size()
    counts[rank()] = len(rows)
    sizes = [int(n) for n in sum_of(counts)]
    padded = torch.zeros(max(sizes), rows.shape[1], dtype=rows.dtype, device=_device())
    padded[: len(rows)] = rows.to(padded)
    gathered = [torch.empty_like(padded) for _ in sizes]
    _group().all_gather(gathered, padded)
    return torch.cat([part[:n] for part, n in zip(gathered, sizes, strict=True)]).cpu()


def first_said(text: str) -> str:
    """Return the first text that is not empty of all processes, by rank, on all of them; every process must call it."""
    if not in_group():
        return text
    try:
        _agree(text)
    except AgreedError as error:
        return str(error)
    return ""


def talk_waits_for_gpu() -> bool:
    """Tell whether processes speak through their GPUs, so that a word waits for all that these still have to do."""
    return in_group() and _device() == "cuda"


def _device() -> str:
    """Return the device that the group takes tensors from: the GPU for nccl, which Lightning makes on GPUs alone."""
    return "cuda" if _group().get_backend() == "nccl" else "cpu"


def _group() -> Any:
    import torch.distributed

    return torch.distributed
