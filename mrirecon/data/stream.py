"""The order of training: every batch of a run, known from its number alone.

A run is one stream of batches. Batch `k` belongs to epoch `k // batches_per_epoch`, and its content is a pure
function of (seed, epoch, rank); so a run that was stopped goes on at batch `k` with the same slices and
the same masks, whatever its workers had read ahead.
"""

from collections.abc import Iterator, Sequence

import numpy as np

Batch = list[tuple[int, int]]  # (index of the slice, seed of its mask)


class BatchStream:
    """Batch sampler over slices; a batch holds images of one shape.

    Args:
        image_shapes: `(height, width)` of each slice's image.
        batch_size: Slices per batch; the last batch of a shape may be smaller, no slice is left out.
        n_batches: Length of the stream; `None`: one epoch.
        seed: Seed of order and masks.
        rank, world_size: Each process takes every `world_size`-th batch of an epoch.
        fixed_masks: A slice keeps its mask's seed in every epoch.
    """

    def __init__(
        self,
        image_shapes: Sequence[tuple[int, int]],
        batch_size: int,
        n_batches: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        fixed_masks: bool = False,
    ) -> None:
        self._of_shape: dict[tuple[int, int], list[int]] = {}
        for index, shape in enumerate(image_shapes):
            self._of_shape.setdefault((shape[0], shape[1]), []).append(index)
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.fixed_masks = fixed_masks
        per_shape = (-(-len(indices) // batch_size) for indices in self._of_shape.values())
        self.batches_per_epoch = sum(per_shape) // world_size
        self.n_slices = len(image_shapes)
        self.n_batches = self.batches_per_epoch if n_batches is None else n_batches
        self.start = 0
        self.first_epoch = 0
        self._sized_epoch, self._sizes = -1, list[int]()

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Batch]:
        """Batches from `start` to the end of the stream."""
        epoch, batches = -1, []
        for number in range(self.start, self.n_batches):
            of_epoch, position = divmod(number, self.batches_per_epoch)
            if of_epoch != epoch:
                epoch, batches = of_epoch, self.epoch(self.first_epoch + of_epoch)
            yield batches[position]

    def set_epoch(self, epoch: int) -> None:
        """For a plain Trainer that iterates a one-epoch stream again and again."""
        self.first_epoch = epoch

    def epoch(self, epoch: int) -> list[Batch]:
        """This rank's batches of one epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        seeds = (np.random.default_rng([self.seed]) if self.fixed_masks else rng).integers(2**32, size=self.n_slices)
        batches = [
            [(int(i), int(seeds[i])) for i in group]
            for indices in self._of_shape.values()
            for group in _groups(rng.permutation(indices), self.batch_size)
        ]
        order = rng.permutation(len(batches))[: self.batches_per_epoch * self.world_size]
        return [batches[i] for i in order[self.rank :: self.world_size]]

    def weight(self, number: int, accumulate: int) -> float:
        """Weight of a batch's mean loss, so that a step over `accumulate` batches is the mean over its slices."""
        if accumulate == 1:
            return 1.0
        first = number - number % accumulate
        sizes = [self._size(n) for n in range(first, min(first + accumulate, self.n_batches))]
        return sizes[number - first] * accumulate / sum(sizes)

    def _size(self, number: int) -> int:
        epoch, position = divmod(number, self.batches_per_epoch)
        if self._sized_epoch != epoch:
            self._sized_epoch, self._sizes = epoch, [len(batch) for batch in self.epoch(epoch)]
        return self._sizes[position]


def _groups(indices: np.ndarray, size: int) -> list[np.ndarray]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]
