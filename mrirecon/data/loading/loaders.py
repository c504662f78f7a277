"""Hand slices to a network: a resumable stream for training, fixed units shared between processes for scoring.

A network's output differs in the last digits with its batch, so equal tables need equal units: they are cut by a rule
that knows no number of processes. How units are shared is a rule that every process works out for itself, with the same
result.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import prod

from torch.utils.data import Dataset

from mrirecon.data.loading.stream import BatchStream
from mrirecon.data.loading.workers import Batches, load_batches
from mrirecon.data.volume import Volume


def cut_units(items: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Cut `(volume, slice)` items into lists of at most `batch_size` positions, each of one volume, in order.

    The slices of a volume have one shape, of image, k-space and mask, so a unit is a batch whatever it carries.
    """
    units: list[list[int]] = []
    for position, (volume, _) in enumerate(items):
        if units and len(units[-1]) < batch_size and items[units[-1][0]][0] == volume:
            units[-1].append(position)
        else:
            units.append([position])
    return units


def unit_costs(
    units: Sequence[Sequence[int]], items: Sequence[tuple[int, int]], volumes: Sequence[Volume]
) -> list[int]:
    """Slices x coils x pixels of each unit.

    Args:
        units: Lists of positions in `items`, each of one volume.
        items: (volume, slice) of every slice.
        volumes: The volumes.
    """
    return [len(unit) * prod(volumes[items[unit[0]][0]].shape[1:]) for unit in units]


def share_neighbours(costs: Sequence[float], n: int) -> list[int]:
    """Owner of each piece of work, 0 to n - 1; neighbours stay together, so few volumes are divided.

    The line of all costs is cut into `n` equal lengths and a piece goes where its middle lies: nobody has more than
    one piece's cost above the mean.
    """
    ends = list(accumulate(costs))
    return [min(int((end - cost / 2) / ends[-1] * n), n - 1) for end, cost in zip(ends, costs, strict=True)]


def share_whole(costs: Sequence[float], n: int) -> list[int]:
    """Owner of each piece of work that cannot be cut, 0 to n - 1: the costliest first, each to the least busy.

    Graham's rule (1969): the busiest has at most 4/3 of the work that the best division would leave it.
    """
    loads, owners = [0.0] * n, [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        owners[i] = loads.index(min(loads))
        loads[owners[i]] += costs[i]
    return owners


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
        """Return the number of batches that are done."""
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
