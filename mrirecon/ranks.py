"""The processes that work together on one job, and the little they say to each other. No torch at import.

Outside a group there is one process, rank 0 of 1, and everything here costs nothing.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


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
    """Whether `flag` is set on any process; all get the same answer."""
    return sum_of([float(flag)])[0] > 0


def sum_of(values: Sequence[float]) -> list[float]:
    """Sums over the processes, in double precision; all get the same numbers."""
    if not in_group():
        return [float(value) for value in values]
    import torch

    summed = torch.tensor(list(values), dtype=torch.float64, device=_device())
    _group().all_reduce(summed)
    return list(summed.tolist())


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives on the first process, which alone calls it; plain values that JSON can hold."""
    if not in_group():
        return make()
    import torch

    text = json.dumps(make()).encode() if is_first() else b""
    size = int(sum_of([len(text)])[0])
    data = torch.tensor(list(text) or [0] * size, dtype=torch.uint8, device=_device())
    _group().broadcast(data, src=0)
    value: T = json.loads(bytes(data.tolist()))
    return value


def gather_rows(rows: "Tensor") -> "Tensor":
    """The rows `(n, columns)` of all processes below each other, in the order of the ranks; n may differ, and be 0."""
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
    """Of the texts of all processes the first one that is not empty, by rank; all get the same one, and have to ask."""
    if not in_group():
        return text
    import torch

    letters = torch.tensor(list(f"{text}\0".encode() if text else b""), dtype=torch.float64)
    return bytes(int(letter) for letter in gather_rows(letters[:, None]).flatten()).decode().partition("\0")[0]


def _device() -> str:
    """Where the group can take tensors from: one that Lightning made on GPUs alone has nccl, which needs theirs."""
    return "cuda" if _group().get_backend() == "nccl" else "cpu"


def _group() -> Any:
    import torch.distributed

    return torch.distributed
