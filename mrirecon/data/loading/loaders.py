"""The two ways slices reach a network: a resumable stream for training, fixed units for scoring."""

from collections.abc import Sequence

from torch.utils.data import Dataset

from mrirecon.data.loading.stream import BatchStream
from mrirecon.data.loading.work_shares import share_neighbours
from mrirecon.data.loading.workers import Batches, load_batches


class StreamLoader:
    """Loads a `BatchStream`; its state is the number of batches the training loop has finished.

    Workers read ahead, so the loop itself reports what is done (`batches_done`); on resume the stream
    starts there. Each iteration has its own random generator: the global one is left alone.
    """

    def __init__(self, dataset: Dataset, stream: BatchStream, workers: int = 0) -> None:
        self.dataset, self.stream, self.workers = dataset, stream, workers
        self.batches_done = 0
        self.sampler = stream  # where Lightning looks for set_epoch
        self._batches: Batches | None = None

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Batches:
        self.stream.start = self.batches_done
        self._batches = load_batches(self.dataset, self.stream, self.workers, self.stream.seed)
        return self._batches

    def close(self) -> None:
        """End the workers of the last iteration."""
        if self._batches is not None:
            self._batches.close()

    def state_dict(self) -> dict[str, int]:
        """Where to go on."""
        return {"batches_done": self.batches_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that were done."""
        self.batches_done = state["batches_done"]


def load_units(dataset: Dataset, units: Sequence[Sequence[int]], workers: int = 0) -> Batches:
    """Load `units` (lists of dataset indices, one shape each) in their order, one batch per unit."""
    return load_batches(dataset, [list(unit) for unit in units], workers, seed=0)


class UnitLoader:
    """Loads the part of `units` that is this process's, at least one; parts are neighbours, of about equal cost.

    A process without any repeats one, so that all take part in what is computed together; count slices by their
    (volume, slice). It is no `DataLoader`, so that no Trainer hands out its units a second time.

    Args:
        dataset, units, workers: As for `load_units`.
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

    def __iter__(self) -> Batches:
        return load_units(self.dataset, self.units, self.workers)
