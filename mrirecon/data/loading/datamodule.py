"""Training and validation data for the Lightning module."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl

from mrirecon import ranks
from mrirecon.config import AugmentConfig, DataConfig
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.folder import open_folder, select
from mrirecon.data.folders.manifest import require_unchanged
from mrirecon.data.loading.batch_order import BatchStream
from mrirecon.data.loading.loaders import StreamLoader, UnitLoader, cut_units, unit_costs
from mrirecon.data.mask_choice import MaskSpec, check_masks, mask_spec, scored_passes
from mrirecon.data.samples import Sample
from mrirecon.data.volume import Volume
from mrirecon.evaluation.protocol import FASTMRI_V1, Protocol
from mrirecon.tables.metrics import METRICS, OBJECT_MASK, needed


class ReconDataModule(pl.LightningDataModule):
    """Slices of the training volumes with masks that change every epoch, and validation volumes with fixed ones.

    In a group of processes each gets its share of both, as the group is when the loaders are made.

    Args:
        config: Folder, masks, selection, workers.
        batch_size: Slices per batch of one process; a batch holds samples of one shape.
        val_volumes: Number of validation volumes, drawn by seed; 0: all.
        seed: Seed of order and masks; of split and selection too, unless `config` has a `split_seed`.
        transform: Makes each sample of its k-space and mask, in place of `needs`.
        protocol: Decides the validation masks, and whether val is halved.
        normalised_together: Slices that BatchNorm saw as one batch in training; 0: `batch_size`. See
            `recalibration_batches`.
        needs: What samples carry, names of `NEEDS`.
        augment: What is done to training slices; validation and `recalibration_batches` take them as they are.

    Raises:
        InputError: From `open_split`, before any work: see there.
    """

    def __init__(
        self,
        config: DataConfig,
        batch_size: int = 2,
        val_volumes: int = 0,
        seed: int = 0,
        transform: Callable[[Sample], Any] | None = None,
        protocol: Protocol = FASTMRI_V1,
        normalised_together: int = 0,
        needs: Sequence[str] = ("image",),
        augment: AugmentConfig | None = None,
    ) -> None:
        super().__init__()
        self.normalised_together = normalised_together or batch_size
        self.config, self.batch_size, self.seed = config, batch_size, seed
        self.transform, self.needs = transform, needs if transform is None else ("kspace", "mask")
        self.protocol = protocol
        folder = open_folder(config, seed, protocol.halves_val)
        self.train_volumes, train_notes = select(folder, config, "train", seed)
        self.val_volumes, val_notes = select(folder, config, "val", seed, n_volumes=val_volumes)
        self.notes = list(dict.fromkeys([*folder.notes, *train_notes, *val_notes, *self._shared_patients()]))
        self.assignment = folder.assignment
        self.spec = mask_spec(config, self.train_volumes, protocol.mask_rule)
        check_masks(
            [*self.train_volumes, *self.val_volumes], self.spec
        )  # what does not fit must not show in the middle
        self.train_set = self._dataset(self.train_volumes, self.spec, augment, scored=False)
        self._dataset(self.val_volumes, self.spec.only(0))  # says what is wrong with the files before any work
        self.stream = self._stream()
        self.stream.share(ranks.rank(), ranks.world_size())

    @property
    def volumes(self) -> list[Volume]:
        """Volumes of train and val together."""
        return [*self.train_volumes, *self.val_volumes]

    def require_unchanged(self) -> None:
        """Raise a DataChangedError where a file is not what it was before it was checked; all processes call it."""
        require_unchanged(self.volumes)

    def _shared_patients(self) -> list[str]:
        """Ready-made splits are taken as they are, but not in silence."""
        shared = {volume.patient for volume in self.train_volumes} & {volume.patient for volume in self.val_volumes}
        if not shared:
            return []
        name = next(volume.name for volume in self.val_volumes if volume.patient in shared)
        return [f"{len(shared)} patients are in both train and val ({name} is of one): scores are optimistic"]

    def plan(self, n_batches: int) -> None:
        """Make the stream `n_batches` long (default: one epoch)."""
        self.stream.n_batches = n_batches

    def train_dataloader(self) -> StreamLoader:
        """The resumable stream of training batches."""
        self.stream.share(ranks.rank(), ranks.world_size())
        return StreamLoader(self.train_set, self.stream, self.config.workers)

    def recalibration_batches(self, n: int) -> Iterable[Sample]:
        """The first `n` training batches of the first epoch (all, if there are fewer), the same each time.

        They are those of one process alone, on every process; not augmented, for they set what is evaluated.
        """
        stream = self._stream(self.normalised_together)
        stream.augmented = False
        stream.n_batches = min(n, stream.batches_per_epoch)
        return StreamLoader(self.train_set, stream)

    def first_batches(self, n: int) -> StreamLoader:
        """The first `n` batches of one process, over as many epochs as that takes; the stream itself stays put."""
        stream = self._stream()
        stream.n_batches = n
        return StreamLoader(self.train_set, stream)

    def _stream(self, batch_size: int = 0) -> BatchStream:
        shapes, fixed = self.train_set.batch_shapes, self.config.fixed_masks
        return BatchStream(
            shapes,
            batch_size or self.batch_size,
            seed=self.seed,
            fixed_masks=fixed,
            augmented=bool(self.train_set.amounts),
        )

    def val_dataloader(self) -> Sequence[UnitLoader]:
        """One loader per acceleration, in fixed units; see `scored_passes`."""
        return [self._unit_loader(*scored) for scored in scored_passes(self.spec, self.val_volumes)]

    def _unit_loader(self, spec: MaskSpec, volumes: list[Volume]) -> UnitLoader:
        dataset = self._dataset(volumes, spec)
        units = cut_units(dataset.items, self.batch_size)
        costs = unit_costs(units, dataset.items, volumes)
        return UnitLoader(dataset, units, self.config.workers, costs, ranks.rank(), ranks.world_size())

    def _dataset(
        self, volumes: list[Volume], spec: MaskSpec, augment: AugmentConfig | None = None, scored: bool = True
    ) -> SliceDataset:
        return SliceDataset(
            volumes,
            augment=augment,
            object_masks=scored and needed(list(METRICS), OBJECT_MASK),
            mask=spec,
            protocol=self.protocol,
            needs=self.needs,
            transform=self.transform,
            slices=self.config.slices or None,
        )
