"""The loop behind every evaluation: reconstruct unit by unit, volume after volume, and score against the reference."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mrirecon import ranks
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.loading.loaders import cut_units, load_units, share_neighbours, share_whole, unit_costs
from mrirecon.data.mask_choice import mask_id
from mrirecon.data.samples import Sample, to_device
from mrirecon.data.transforms import scored_target
from mrirecon.data.volume import Volume
from mrirecon.evaluation import FASTMRI_V1, Protocol, VolumeScore
from mrirecon.evaluation.foreground import RULE, STORED
from mrirecon.evaluation.results import VolumeResult
from mrirecon.evaluation.slice_rows import SliceRows
from mrirecon.models.device import give_back_freed_memory
from mrirecon.progress import progress
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.tables.metrics import OBJECT_MASK, needed

Watcher = Callable[[Sample, Tensor], None]  # sees each batch and its reconstructions


@dataclass(frozen=True)
class Scoring:
    """The settings with which the slices of an evaluation are read, reconstructed and scored."""

    protocol: Protocol
    metrics: Sequence[str]  # names of `METRICS`
    slices: Sequence[int] | None  # first and last of each volume; None: all
    batch_size: int  # slices per unit
    workers: int  # processes that read


def score_dataset(
    dataset: SliceDataset,
    reconstructor: Reconstructor,
    mask: str,
    *,
    metrics: Sequence[str] | None = None,
    protocol: Protocol = FASTMRI_V1,
    batch_size: int = 1,
    workers: int = 0,
    watchers: Sequence[Watcher] = (),
    whole: bool = False,
    seconds_of_units: list[float] | None = None,
) -> list[VolumeResult]:
    """Reconstruct every slice of `dataset` (of `Sample`) and score its volumes.

    One plain loop over units of one volume, in order; only scalars are kept, and what a volume has freed is given back,
    so memory does not grow with the number of volumes but by some bytes. Several processes share the units, and all
    return the same table: that of one process, bit for bit, as long as their threads are as many.

    Args:
        dataset: Its masks are those of its `draw`.
        reconstructor: What is scored.
        mask: Name of the drawn masks for the table; volumes with masks of their own are called file there.
        metrics: Names of `METRICS`; None: the default ones.
        protocol: How scores are taken.
        batch_size: Slices per unit.
        workers: Worker processes that read.
        watchers: Called with each batch and its images, on the reconstructor's device.
        whole: Each volume stays on one process, for watchers that need all of it.
        seconds_of_units: Gets what each reconstruction of this process took, in order, without reading and scoring.
    """
    names = [volume.name for volume in dataset.volumes]
    in_order, units = VolumeByVolume(dataset), own_units(dataset, batch_size, whole)
    slices = SliceRows(names, metrics)
    rows = [torch.empty(0, 2 * slices.width, dtype=torch.float64)]  # reconstruction, beside the zero-filled image
    seconds = dict.fromkeys(names, 0.0)
    label = f"{reconstructor.name}, {mask}, draw {dataset.draw}"
    with closing(load_units(in_order, units, workers)) as batches:
        for batch in progress(batches, label, len(units), "units"):
            sample = to_device(batch, reconstructor.device)
            images, took = _reconstruct(reconstructor, sample)
            about: tuple[Any, ...] = (sample.data_range, sample.volume, sample.slice_idx, sample.object_mask)
            target = scored_target(sample, protocol.clamps_target)
            rows.append(slices.of_batch(target, (images, sample.image), *about))
            seconds[sample.volume[0]] += took
            if seconds_of_units is not None:
                seconds_of_units.append(took)
            for watch in watchers:
                watch(sample, images)
    gathered = ranks.gather_rows(torch.cat(rows)).split(slices.width, dim=1)
    own, reference = (slices.volume_scores(part) for part in gathered)
    sources = dict.fromkeys(names, "")
    if needed(slices.metrics, OBJECT_MASK):
        sources = {name: STORED if name in dataset.with_object_mask else RULE for name in names}
    total = ranks.sum_of(list(seconds.values()))
    return [
        _result(
            dataset,
            i,
            reconstructor=reconstructor,
            mask=mask,
            protocol=protocol,
            seconds=total[i],
            scores=(own[name], reference[name]),
            source=sources[name],
        )
        for i, name in enumerate(names)
    ]


def own_units(dataset: SliceDataset, batch_size: int, whole: bool = False) -> list[list[int]]:
    """The units of this process; see `cut_units`. Where volumes stay whole the balance is as good as they allow."""
    units = cut_units(dataset.items, batch_size)
    costs, n = unit_costs(units, dataset.items, dataset.volumes), ranks.world_size()
    if not whole:
        owners = share_neighbours(costs, n)
    else:
        of_volume = [0] * len(dataset.volumes)
        for unit, cost in zip(units, costs, strict=True):
            of_volume[dataset.items[unit[0]][0]] += cost
        owner_of_volume = share_whole(of_volume, n)
        owners = [owner_of_volume[dataset.items[unit[0]][0]] for unit in units]
    return [unit for unit, owner in zip(units, owners, strict=True) if owner == ranks.rank()]


def _reconstruct(reconstructor: Reconstructor, sample: Sample) -> tuple[Tensor, float]:
    """Reconstruct a batch: images `(batch, h, w)` and the seconds it took."""
    start = time.perf_counter()
    images = reconstructor(sample)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return images, time.perf_counter() - start


def _result(
    dataset: SliceDataset,
    index: int,
    *,
    reconstructor: Reconstructor,
    mask: str,
    protocol: Protocol,
    seconds: float,
    scores: tuple[VolumeScore, VolumeScore],
    source: str,
) -> VolumeResult:
    volume, (own, zero_filled) = dataset.volumes[index], scores
    columns = dataset.scoring_mask(volume)
    return VolumeResult(
        volume=volume.name,
        patient=volume.patient,
        origin=volume.origin,
        acquisition=volume.acquisition,
        n_slices=own.n_slices,
        acceleration=float(columns.acceleration),
        acceleration_true=columns.acceleration_true,
        mask="file" if dataset.has_own_mask(volume) else mask,
        mask_draw=dataset.draw,
        mask_id=mask_id(columns),
        protocol=protocol.name,
        reconstructor=reconstructor.name,
        checkpoint=reconstructor.checkpoint,
        scores=own.scores,
        zero_filled=zero_filled.scores,
        seconds=seconds,
        object=source,
        n_object_windows=own.n_object_windows,
    )


class VolumeByVolume(Dataset[Any]):
    """The items of a data set, to be read in order; memory of the last volume goes back before the next one.

    It does so in the process that reads, each worker for itself.
    """

    def __init__(self, dataset: SliceDataset) -> None:
        self.dataset = dataset
        self._volume = -1

    def __getitem__(self, index: int) -> Any:
        volume, _ = self.dataset.items[index]
        if volume != self._volume:
            give_back_freed_memory()
            self._volume = volume
        return self.dataset[index]


class WholeVolumes:
    """Keeps the images of one volume and hands them over when the last one has come.

    Args:
        volumes: All that are reconstructed.
        items: (volume, slice) of every reconstructed slice, volume by volume: the order in which batches come.
        finish: Gets each volume with its images `(slices, height, width)`, float32.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        items: Sequence[tuple[int, int]],
        finish: Callable[[Volume, np.ndarray], None],
    ) -> None:
        self.finish = finish
        self._of_name = {volume.name: volume for volume in volumes}
        self._slices: dict[str, list[int]] = {name: [] for name in self._of_name}
        for v, i in items:
            self._slices[volumes[v].name].append(i)
        self._images: dict[int, np.ndarray] = {}

    def __call__(self, sample: Sample, images: Tensor) -> None:
        """Take the images `(batch, h, w)` of a batch, which are of one volume."""
        name = sample.volume[0]
        for i, image in zip(torch.as_tensor(sample.slice_idx).tolist(), images, strict=True):
            self._images[i] = image.float().cpu().numpy().copy()
        if len(self._images) == len(self._slices[name]):
            stacked = np.stack([self._images.pop(i) for i in self._slices[name]])
            self.finish(self._of_name[name], stacked)
