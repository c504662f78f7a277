"""Scoring the network inside training: the run's protocol on the validation volumes, at every acceleration."""

import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mrirecon.data.transforms import ImageSample, to_device
from mrirecon.evaluation import VolumeMetrics, mean_score
from mrirecon.training.curves import Curves
from mrirecon.training.module import ReconModule
from mrirecon.training.stopping import StopRequest


class Validation:
    """Scores a network on fixed masks and reports to the curves.

    Args:
        loaders: One loader of `ImageSample` units per acceleration.
        curves: Gets the scores.
    """

    def __init__(self, loaders: Sequence[DataLoader], curves: Curves) -> None:
        self.loaders, self.curves = loaders, curves

    def __call__(self, trainer: pl.Trainer, module: Any, stop: StopRequest) -> dict[str, float] | None:
        """Mean scores over volumes and accelerations; None when a stop was requested meanwhile."""
        began = time.monotonic()
        module.eval()
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            losses, metrics = self._score(module, stop)
        module.train()
        self.curves.leave_out(time.monotonic() - began)
        if stop:
            return None
        mean = mean_score(score for metric in metrics for score in metric.compute().values())
        scores = {
            "val_loss": sum(losses) / len(losses),
            "val_ssim": mean.ssim,
            "val_psnr": mean.psnr,
            "val_nmse": mean.nmse,
        }
        self.curves.validated(trainer, scores, self._panel)
        return scores

    def _score(self, module: ReconModule, stop: StopRequest) -> tuple[list[float], list[VolumeMetrics]]:
        losses: list[float] = []
        self._panel: Tensor | None = None
        metrics = [VolumeMetrics([v.name for v in loader.dataset.volumes]) for loader in self.loaders]  # type: ignore[attr-defined]
        for metric, loader in zip(metrics, self.loaders, strict=True):
            for batch in loader:
                if stop:
                    return losses, metrics
                sample = to_device(batch, module.device)
                images = module(sample)
                if self._panel is None:
                    self._panel = _side_by_side(sample, images)
                losses += [module.sample_loss(sample).item()] * len(images)
                metric.update(sample.target, images, sample.data_range, sample.volume, sample.slice_idx)
        return losses, metrics


def _side_by_side(sample: ImageSample, images: Tensor) -> Tensor:
    """Target, zero-filled and reconstruction of a batch's first slice, from 0 to the target's maximum as 0 to 1."""
    target = sample.target[0]
    shown = torch.cat([target, sample.image[0], images[0].to(target.dtype)], dim=1)
    return (shown / target.amax()).clamp(0, 1).cpu()
