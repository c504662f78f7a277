"""Scoring the network inside training: the run's protocol on the validation volumes, at every acceleration."""

import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mrirecon.data.transforms import ImageSample, scored_target, to_device
from mrirecon.evaluation import FASTMRI_V1, Protocol, VolumeMetrics, mean_score
from mrirecon.evaluation.metrics import VolumeScore
from mrirecon.training.curves import Curves
from mrirecon.training.module import ReconModule
from mrirecon.training.prediction import predict
from mrirecon.training.stopping import StopRequest


class Validation:
    """Scores a network on fixed masks and reports to the curves.

    Args:
        loaders: One loader of `ImageSample` units per acceleration.
        curves: Gets the scores.
        protocol: How they are taken.
    """

    def __init__(self, loaders: Sequence[DataLoader], curves: Curves, protocol: Protocol = FASTMRI_V1) -> None:
        self.loaders, self.curves, self.protocol = loaders, curves, protocol

    def __call__(self, trainer: pl.Trainer, module: Any, stop: StopRequest) -> dict[str, float] | None:
        """Mean scores over volumes and accelerations; None when a stop was requested meanwhile."""
        began = time.monotonic()
        module.eval()
        with module.evaluated_weights(), torch.inference_mode(), trainer.precision_plugin.forward_context():
            losses, metrics = self._score(module, stop)
        module.train()
        self.curves.leave_out(time.monotonic() - began)
        if stop:
            return None
        computed = [metric.compute() for metric in metrics]
        mean = mean_score((score for volumes in computed for score in volumes.values()), self.protocol.per_slice)
        scores = {
            "val_loss": sum(losses) / len(losses),
            "val_ssim": mean.ssim,
            "val_psnr": mean.psnr,
            "val_nmse": mean.nmse,
        }
        module.observe(mean.ssim)
        self.curves.validated(trainer, scores, self._panel, self._rows(computed))
        return scores

    def _score(self, module: ReconModule, stop: StopRequest) -> tuple[list[float], list[VolumeMetrics]]:
        losses: list[float] = []
        self._panel: Tensor | None = None
        self._accelerations: list[dict[str, float]] = [{} for _ in self.loaders]
        shown = _shown(self.loaders[0])
        metrics = [VolumeMetrics([v.name for v in loader.dataset.volumes]) for loader in self.loaders]  # type: ignore[attr-defined]
        for metric, loader, nominal in zip(metrics, self.loaders, self._accelerations, strict=True):
            for batch in loader:
                if stop:
                    return losses, metrics
                sample = to_device(batch, module.device)
                prediction = predict(module.model, sample)
                images = prediction.image
                of_batch = list(zip(sample.volume, torch.as_tensor(sample.slice_idx).tolist(), strict=True))
                if self._panel is None and shown in of_batch:
                    self._panel = _side_by_side(sample, images, of_batch.index(shown))
                losses += [module.sample_loss(sample, prediction).item()] * len(images)
                target = scored_target(sample, self.protocol.clamps_target)
                metric.update(target, images, sample.data_range, sample.volume, sample.slice_idx)
                nominal.update(zip(sample.volume, torch.as_tensor(sample.acceleration).tolist(), strict=True))
        return losses, metrics

    def _rows(self, computed: Sequence[dict[str | int, VolumeScore]]) -> list[list[Any]]:
        """Volume, nominal acceleration, slices and scores; of a volume only its name, which is no patient's."""
        return [
            [name, nominal[str(name)], score.n_slices, score.ssim, score.psnr, score.nmse]
            for nominal, scores in zip(self._accelerations, computed, strict=True)
            for name, score in scores.items()
        ]


def _shown(loader: DataLoader) -> tuple[str, int]:
    """The slice that panels show: the middle one of the first volume; the outer ones are mostly air."""
    dataset: Any = loader.dataset
    of_first = [i for volume, i in dataset.items if volume == 0]
    return dataset.volumes[0].name, of_first[len(of_first) // 2]


def _side_by_side(sample: ImageSample, images: Tensor, k: int) -> Tensor:
    """Target, zero-filled and reconstruction of a batch's slice `k`, from 0 to the target's maximum as 0 to 1."""
    target = sample.target[k]
    shown = torch.cat([target, sample.image[k], images[k].to(target.dtype)], dim=1)
    return torch.nan_to_num(shown / target.amax()).clamp(0, 1).cpu()
