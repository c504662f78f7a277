"""The Lightning module: a normalized network, a loss on normalised values, an optimizer with its schedule."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mrirecon.config import OptimizerConfig, ScheduleConfig
from mrirecon.data.transforms import ImageSample, normalize, unnormalize
from mrirecon.errors import WorkFailedError
from mrirecon.evaluation import VolumeMetrics, mean_score
from mrirecon.training.losses import Loss, make_loss
from mrirecon.training.optimizers import make_optimizer
from mrirecon.training.schedules import make_schedule


class ReconModule(pl.LightningModule):
    """Trains `model` to map zero-filled magnitude images to fully sampled ones.

    The network and the loss see values normalised with the input's mean and standard deviation and clamped
    to +-6; scores are taken on un-normalised images against the stored, unclamped target (fastMRI scores
    against the clamped one).

    Args:
        model: `(batch, 1, height, width)` to the same shape.
        optimizer, schedule: Their configuration; `n_steps` is the length of the schedule.
        loss: A name of `LOSSES`, a {class_path, init_args} or a callable.
        batch_weight: Weight of each batch's mean loss by batch number (uneven batches under accumulation).
        seed: The global generator is reseeded from (seed, batch number, rank) before each batch.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerConfig | None = None,
        schedule: ScheduleConfig | None = None,
        n_steps: int = 1,
        loss: str | dict[str, Any] | Loss = "l1",
        batch_weight: Callable[[int], float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer, self.schedule = optimizer or OptimizerConfig(), schedule or ScheduleConfig()
        self.n_steps, self.seed = n_steps, seed
        self.loss = make_loss(loss)
        self.batch_weight = batch_weight or (lambda _number: 1.0)
        self.first_loss: float | None = None

    def forward(self, sample: ImageSample) -> Tensor:
        """Reconstructions `(batch, height, width)` in the units of the target."""
        return unnormalize(self.predict_normalized(sample), sample.mean, sample.std)

    def predict_normalized(self, sample: ImageSample) -> Tensor:
        """The network's output on the normalised, clamped input, `(batch, height, width)`, in fp32."""
        image = normalize(sample.image, sample.mean, sample.std)
        return self.model(image.unsqueeze(1)).squeeze(1).float()

    def sample_loss(self, sample: ImageSample) -> Tensor:
        """Mean loss of a batch."""
        target = normalize(sample.target, sample.mean, sample.std)
        prediction = self.predict_normalized(sample)
        with torch.autocast(prediction.device.type, enabled=False):
            return self.loss(prediction, target)

    def on_train_batch_start(self, batch: ImageSample, batch_idx: int) -> None:
        """Dropout of batch k does not depend on what ran before it."""
        torch.manual_seed(hash((self.seed, batch_idx, self.global_rank)) % 2**63)

    def training_step(self, batch: ImageSample, batch_idx: int) -> Tensor:
        """Weighted mean loss of the batch.

        Raises:
            WorkFailedError: The loss is not finite or a thousand times the first one.
        """
        loss = self.sample_loss(batch)
        self._stop_if_diverged(loss.detach().item())
        return loss * self.batch_weight(batch_idx)

    def on_validation_epoch_start(self) -> None:
        """For a plain Trainer; `mrirecon train` validates at exact steps instead (training/keeper.py)."""
        self._val_metrics, self._val_ids = VolumeMetrics(), dict[str, int]()

    def validation_step(self, batch: ImageSample, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score the slices of a batch."""
        volumes = [self._val_ids.setdefault(name, len(self._val_ids)) for name in batch.volume]
        images = self(batch)
        self._val_metrics.update(batch.target, images, batch.data_range, volumes, batch.slice_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the mean over volumes as val_ssim, val_psnr, val_nmse."""
        mean = mean_score(self._val_metrics.compute().values())
        self.log_dict({"val_ssim": mean.ssim, "val_psnr": mean.psnr, "val_nmse": mean.nmse})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The first loss is what a diverging one is held against."""
        checkpoint["first_loss"] = self.first_loss

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The first loss of the whole run, not of its resumed part."""
        self.first_loss = checkpoint.get("first_loss")

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """The optimizer and a schedule that moves every optimizer step."""
        config = self.optimizer
        optimizer = make_optimizer(
            config.name,
            self.model,
            config.lr,
            config.weight_decay,
            momentum=config.momentum,
            betas=config.betas,
            alpha=config.alpha,
            eps=config.eps,
        )
        schedule = make_schedule(optimizer, self.schedule, self.n_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _stop_if_diverged(self, loss: float) -> None:
        if self.first_loss is None:
            self.first_loss = loss
        if not loss < float("inf") or loss > 1000 * max(self.first_loss, 1e-12):
            raise WorkFailedError(
                f"training diverged at step {self.global_step}: loss {loss:.3g} (first {self.first_loss:.3g}); "
                f"lower --lr (now {self.optimizer.lr:g}), add --clip 1 or --schedule.warmup 0.1. "
                "The last good checkpoint, if there was one, is kept."
            )
