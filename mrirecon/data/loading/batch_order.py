"""The order of training: every batch of a run, known from its number alone.

A run is one stream of batches. Batch `k` belongs to epoch `k // batches_per_epoch`, and its content is a pure
function of (seed, epoch, rank); so a run that was stopped goes on at batch `k` with the same slices and
the same masks, whatever its workers had read ahead.

Processes share each batch: the stream is cut into groups of `batch_size` slices for each of them, and every process
takes its part of every group. So 1 process with batches of 4, 2 with batches of 2 and 4 with batches of 1 see the same
slices under the same masks in the same steps.
"""

from collections.abc import Iterator, Sequence

import numpy as np

Batch = list[tuple[int, ...]]  # (index of the slice, seed of its mask[, seed of its augmentation])


class BatchStream:
    """Batch sampler over slices; a batch holds samples of one shape.

    Args:
        shapes: Of each slice what those of a batch must share (`SliceDataset.batch_shapes`).
        batch_size: Slices per batch of one process; the last batch of a shape may be smaller, no slice is left out.
        n_batches: Length of the stream; `None`: one epoch.
        seed: Seed of order and masks.
        rank, world_size: Which of how many processes; see `share`.
        fixed_masks: A slice keeps its mask's seed in every epoch.
        augmented: Slices get a seed of their augmentation, too, another one in every epoch; order and masks stay.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        batch_size: int,
        n_batches: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        fixed_masks: bool = False,
        augmented: bool = False,
    ) -> None:
        self._of_shape: dict[tuple[int, ...], list[int]] = {}
        for index, shape in enumerate(shapes):
            self._of_shape.setdefault(tuple(shape), []).append(index)
        self.batch_size, self.seed, self.fixed_masks = batch_size, seed, fixed_masks
        self.augmented = augmented
        self.n_slices = len(shapes)
        self._n_batches = n_batches
        self.start = 0
        self.first_epoch = 0
        self.share(rank, world_size)

    def share(self, rank: int, world_size: int) -> None:
        """Take the part of process `rank` of `world_size` from now on."""
        self.rank, self.world_size = rank, world_size
        self._sized_epoch, self._sizes = -1, list[int]()

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one pass over the slices, the same on every process."""
        size = self.batch_size * self.world_size
        return sum(-(-len(indices) // size) for indices in self._of_shape.values())

    @property
    def n_batches(self) -> int:
        """Length of the stream."""
        return self.batches_per_epoch if self._n_batches is None else self._n_batches

    @n_batches.setter
    def n_batches(self, n: int) -> None:
        self._n_batches = n

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Batch]:
        """Batches from `start` to the end of the stream."""
        epoch, batches, per_epoch = -1, list[Batch](), self.batches_per_epoch
        for number in range(self.start, self.n_batches):
            of_epoch, position = divmod(number, per_epoch)
            if of_epoch != epoch:
                epoch, batches = of_epoch, self.epoch(self.first_epoch + of_epoch)
            yield batches[position]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of a one-epoch stream that a plain Trainer iterates again and again.

        Lightning calls it, as it calls that of torch's `DistributedSampler`.
        """
        self.first_epoch = epoch

    def epoch(self, epoch: int) -> list[Batch]:
        """This process's batches of one epoch; where a group has too few slices, one again (see `weight`)."""
        return [_part(group, self.rank, self.world_size) for group in self._groups(epoch)]

    def weight(self, number: int, accumulate: int) -> float:
        """Weight of a batch's mean loss, so that a step is the mean over its slices.

        A step averages over processes and over `accumulate` batches. A batch that another process has too weighs 0.
        """
        first = number - number % accumulate
        sizes = [self.size(n) for n in range(first, min(first + accumulate, self.n_batches))]
        own = len(range(self.rank, sizes[number - first], self.world_size))
        return own * accumulate * self.world_size / sum(sizes)

    def size(self, number: int) -> int:
        """Slices of batch `number` on all processes together."""
        of_epoch, position = divmod(number, self.batches_per_epoch)
        epoch = self.first_epoch + of_epoch
        if self._sized_epoch != epoch:
            self._sized_epoch, self._sizes = epoch, [len(group) for group in self._groups(epoch)]
        return self._sizes[position]

    def _groups(self, epoch: int) -> list[Batch]:
        """The batches of all processes together."""
        rng = np.random.default_rng([self.seed, epoch])
        seeds = (np.random.default_rng([self.seed]) if self.fixed_masks else rng).integers(2**32, size=self.n_slices)
        columns = [seeds.tolist()]
        if self.augmented:
            columns.append(np.random.default_rng([self.seed, epoch, 1]).integers(2**32, size=self.n_slices).tolist())
        size = self.batch_size * self.world_size
        groups = [
            [(int(i), *(column[i] for column in columns)) for i in order[first : first + size]]
            for order in (rng.permutation(indices) for indices in self._of_shape.values())
            for first in range(0, len(order), size)
        ]
        return [groups[i] for i in rng.permutation(len(groups))]


def _part(group: Batch, rank: int, world_size: int) -> Batch:
    """Contiguous parts of sizes that differ by one at most, the larger ones first."""
    if rank >= len(group):
        return [group[rank % len(group)]]
    size, n_larger = divmod(len(group), world_size)
    first = rank * size + min(rank, n_larger)
    return group[first : first + size + (rank < n_larger)]
