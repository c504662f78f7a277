"""Joins the processes of a job into one group of `torch.distributed`."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from mrirecon import ranks
from mrirecon.cluster.launch import PARENT
from mrirecon.cluster.place import Place, find_place
from mrirecon.errors import InputError

_PATIENCE = timedelta(minutes=30)  # one process may read for long; one that died is noticed at once
_LOOK_S, _GRACE_S = 1.0, 60.0


class Processes(Protocol):
    """The keys of a configuration that say how many processes work together."""

    @property
    def devices(self) -> int:
        """On each node."""

    @property
    def num_nodes(self) -> int:
        """Nodes."""

    @property
    def device(self) -> str:
        """auto, cpu or cuda."""


@contextmanager
def joined(config: Processes) -> Iterator[None]:
    """Be one of the processes that a configuration asks for: `mrirecon.ranks` then knows the group.

    With one process nothing happens. Each process has a GPU of its own as torch's current one.

    Raises:
        InputError: Other processes were started than asked for, or there are too few GPUs.
    """
    place = None if ranks.in_group() else find_place(config.devices, config.num_nodes)
    if place is None:
        yield
        return
    join(place, config.device)
    yield
    # After an error nobody waits: the end of this process tells the others.
    ranks.barrier()
    if not ranks.is_program:  # whose end will do; with torch 2.6 and 2.7 leaving a group of gloo hangs at times
        leave()


def join(place: Place, device: str = "cpu") -> None:
    """Wait for all processes; CPU tensors go over gloo, those of GPUs over nccl.

    As torch's manual advises (https://docs.pytorch.org/docs/stable/distributed.html).
    """
    import torch
    import torch.distributed

    _follow_parent()
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus:
        if place.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"process {place.local_rank} of this node has no GPU ({torch.cuda.device_count()} are here); "
                "lower --devices, let every process see all GPUs of its node (--gpus-per-node, not --gpus-per-task), "
                "or use --device cpu"
            )
        torch.cuda.set_device(place.local_rank)
    os.environ["LOCAL_RANK"] = str(place.local_rank)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
        init_method=place.meeting,
        rank=place.rank,
        world_size=place.world_size,
        timeout=_PATIENCE,
    )


def leave() -> None:
    """End the group."""
    import torch.distributed

    torch.distributed.destroy_process_group()


def _follow_parent() -> None:
    """Do not outlive the launcher: it may be killed without a word."""
    parent = int(os.environ.get(PARENT, "0"))
    if parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)  # a training saves its state
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
