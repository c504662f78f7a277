"""The loop behind every evaluation: reconstruct unit by unit and score against the reference."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.data.dataset import SliceDataset
from mrirecon.data.loaders import unit_loader
from mrirecon.data.transforms import ImageSample, scored_target, to_device
from mrirecon.data.units import cut_units
from mrirecon.evaluation import FASTMRI_V1, Protocol, VolumeMetrics, VolumeScore
from mrirecon.evaluation.results import VolumeResult
from mrirecon.progress import progress
from mrirecon.workflows.reconstructor import Reconstructor

Watcher = Callable[[ImageSample, Tensor], None]  # sees each batch and its reconstructions


@dataclass
class _Measured:
    """What the loop learns about a volume besides its scores."""

    acceleration: float = 0.0
    acceleration_true: float = 0.0
    mask_id: str = ""
    seconds: float = 0.0


def score_dataset(
    dataset: SliceDataset,
    reconstructor: Reconstructor,
    mask: str,
    *,
    protocol: Protocol = FASTMRI_V1,
    batch_size: int = 1,
    workers: int = 0,
    watchers: Sequence[Watcher] = (),
) -> list[VolumeResult]:
    """Reconstruct every slice of `dataset` (of `ImageSample`) and score its volumes.

    One plain loop over units of one volume, in order; only scalars are kept, so memory does not grow with
    the number of volumes but by some bytes.

    Args:
        dataset: Its masks are those of its `draw`.
        reconstructor: What is scored.
        mask: Name of the mask for the table.
        protocol: How scores are taken.
        batch_size: Slices per unit.
        workers: Worker processes that read.
        watchers: Called with each batch and its images, on the reconstructor's device.
    """
    names = [volume.name for volume in dataset.volumes]
    scores, zero_filled = VolumeMetrics(names), VolumeMetrics(names)
    measured = {name: _Measured() for name in names}
    units = cut_units(dataset.items, batch_size)
    loader = unit_loader(dataset, units, workers)
    for batch in progress(loader, f"{reconstructor.name}, {mask}, draw {dataset.draw}", len(units), "units"):
        sample = to_device(batch, reconstructor.device)
        images, seconds = _reconstruct(reconstructor, sample)
        about = (sample.data_range, sample.volume, sample.slice_idx)
        target = scored_target(sample, protocol.clamps_target)
        scores.update(target, images, *about)
        zero_filled.update(target, sample.image, *about)
        _note(measured[sample.volume[0]], sample, seconds)
        for watch in watchers:
            watch(sample, images)
    own, reference = scores.compute(), zero_filled.compute()
    return [
        _result(
            dataset,
            i,
            reconstructor=reconstructor,
            mask=mask,
            protocol=protocol,
            measured=measured[name],
            scores=(own[name], reference[name]),
        )
        for i, name in enumerate(names)
    ]


def _reconstruct(reconstructor: Reconstructor, sample: ImageSample) -> tuple[Tensor, float]:
    start = time.perf_counter()
    images = reconstructor(sample)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return images, time.perf_counter() - start


def _note(measured: _Measured, sample: ImageSample, seconds: float) -> None:
    """A unit is of one volume, and a volume has one mask."""
    measured.acceleration = float(torch.as_tensor(sample.acceleration)[0])
    measured.acceleration_true = float(torch.as_tensor(sample.acceleration_true)[0])
    measured.mask_id = sample.mask_id[0]
    measured.seconds += seconds


def _result(
    dataset: SliceDataset,
    index: int,
    *,
    reconstructor: Reconstructor,
    mask: str,
    protocol: Protocol,
    measured: _Measured,
    scores: tuple[VolumeScore, VolumeScore],
) -> VolumeResult:
    volume, (own, zero_filled) = dataset.volumes[index], scores
    return VolumeResult(
        volume=volume.name,
        patient=volume.patient,
        origin=volume.origin,
        acquisition=volume.acquisition,
        n_slices=own.n_slices,
        acceleration=measured.acceleration,
        acceleration_true=measured.acceleration_true,
        mask=mask,
        mask_draw=dataset.draw,
        mask_id=measured.mask_id,
        protocol=protocol.name,
        reconstructor=reconstructor.name,
        checkpoint=reconstructor.checkpoint,
        ssim=own.ssim,
        psnr=own.psnr,
        nmse=own.nmse,
        zf_ssim=zero_filled.ssim,
        zf_psnr=zero_filled.psnr,
        zf_nmse=zero_filled.nmse,
        seconds=measured.seconds,
    )
