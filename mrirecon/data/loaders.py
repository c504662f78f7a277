"""The two ways slices reach a network: a resumable stream for training, fixed units for scoring."""

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mrirecon.data.shares import share_neighbours
from mrirecon.data.stream import BatchStream


def leave_signals_to_the_parent(_worker: int) -> None:
    """Ctrl-C and a scheduler's signals reach every process of a job; a worker that died would end it unsaved."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


class StreamLoader:
    """Loads a `BatchStream`; its state is the number of batches the training loop has finished.

    Workers read ahead, so the loop itself reports what is done (`batches_done`); on resume the stream
    starts there. Each iteration has its own random generator: the global one is left alone.
    """

    def __init__(self, dataset: Dataset, stream: BatchStream, workers: int = 0) -> None:
        self.dataset, self.stream, self.workers = dataset, stream, workers
        self.batches_done = 0
        self.sampler = stream  # where Lightning looks for set_epoch

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[Any]:
        self.stream.start = self.batches_done
        return iter(
            DataLoader(
                self.dataset,
                batch_sampler=self.stream,
                num_workers=self.workers,
                worker_init_fn=leave_signals_to_the_parent,
                generator=torch.Generator().manual_seed(self.stream.seed),
            )
        )

    def state_dict(self) -> dict[str, int]:
        """Where to go on."""
        return {"batches_done": self.batches_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that were done."""
        self.batches_done = state["batches_done"]


def unit_loader(dataset: Dataset, units: Sequence[Sequence[int]], workers: int = 0) -> DataLoader:
    """Load `units` (lists of dataset indices, one shape each) in their order, one batch per unit."""
    return DataLoader(
        dataset,
        batch_sampler=[list(unit) for unit in units],
        num_workers=workers,
        worker_init_fn=leave_signals_to_the_parent,
        generator=torch.Generator().manual_seed(0),
    )


class UnitLoader:
    """Loads the part of `units` that is this process's, at least one; parts are neighbours, of about equal cost.

    A process without any repeats one, so that all take part in what is computed together; count slices by their
    (volume, slice). It is no `DataLoader`, so that no Trainer hands out its units a second time.

    Args:
        dataset, units, workers: As for `unit_loader`.
        costs: Of each unit, in any measure.
        rank, world_size: Which of how many processes.
    """

    def __init__(
        self,
        dataset: Dataset,
        units: Sequence[Sequence[int]],
        workers: int = 0,
        costs: Sequence[float] = (),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset, self.workers = dataset, workers
        owners = share_neighbours(costs or [1.0] * len(units), world_size)
        shares = [[unit for unit, owner in zip(units, owners, strict=True) if owner == r] for r in range(world_size)]
        self.units = shares[rank] or list(units[:1])
        self.n_rounds = max(len(self.units), *map(len, shares))

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator[Any]:
        return iter(unit_loader(self.dataset, self.units, self.workers))
