"""The Lightning module: a network, a loss, an optimizer with its schedule, and which weights are evaluated."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from typing import Any, NamedTuple, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from mrirecon import ranks
from mrirecon.config import AverageConfig, OptimizerConfig, ScheduleConfig
from mrirecon.data.loading.batch_order import BatchStream
from mrirecon.data.samples import Sample
from mrirecon.data.transforms import normalize, scored_target
from mrirecon.errors import DivergedError, InputError
from mrirecon.evaluation import VolumeMetrics, mean_score
from mrirecon.evaluation.stats import goodness
from mrirecon.tables.metrics import validation_metrics
from mrirecon.training.prediction import Predict, Prediction, predict_by_class
from mrirecon.training.recipe.averages import EvaluatedWeights, OptimizerAverage, make_average
from mrirecon.training.recipe.batchnorm import batch_norms, count_batches_of, recalibrate, take_buffers_of_the_first
from mrirecon.training.recipe.freezing import freeze as freeze_parts
from mrirecon.training.recipe.losses import LossInput, Pairwise, make_loss
from mrirecon.training.recipe.optimizers import has_modes, make_optimizer
from mrirecon.training.recipe.schedules import PlateauLR, make_schedule


class BatchNote(NamedTuple):
    """A training batch on all processes together."""

    loss: float  # weighted, so that its mean over the batches of a step is the mean over slices
    n_slices: int


class _Unread(NamedTuple):
    """A training batch of this process whose loss is still on the device."""

    step: int
    loss: Tensor
    weight: float
    n_slices: int


READ_EVERY = 10  # batches


class ReconModule(pl.LightningModule):
    """Trains `model` to map zero-filled images to fully sampled magnitudes.

    What the network sees is up to `predict`. Losses see values normalised with the input's mean and standard deviation,
    the target clamped to +-6, or images; scores are taken on images against the stored, unclamped target (fastMRI
    scores against the clamped one).

    Losses stay on the device for up to `READ_EVERY` batches and are read together (`read_losses`), so that neither the
    device nor other processes are waited for at every batch. A training that diverges ends when that is read: within so
    many batches, and before anything is validated or saved.

    Where weights are averaged (`average`, or a Schedule-Free optimizer), the averages are validated and are the
    `state_dict` of every checkpoint, with BatchNorm statistics measured for them on `recalibration_batches` (those
    of the Trainer's data module, where it has them); a resumed run goes on with the `training_weights` beside them.

    Args:
        model: A network, such as `UNet` or `NormUNet`.
        optimizer, schedule: Their configuration; `n_steps` is the length of the schedule.
        loss: A name of `LOSSES`, a {class_path, init_args} or a callable (prediction, target) on normalised values.
        stream: The batches of the training, which knows what uneven ones weigh; None: that of the Trainer's data
            module, else all weigh the same.
        seed: The global generator is reseeded from (seed, batch number, rank) before each batch.
        average: Which weights are evaluated.
        l1_weight: Weight of l1 in the loss l1_ssim.
        freeze: Patterns of the names of parameters that stay as they are; see `freezing.freeze`.
        monitor: The score of a validation that the schedule `plateau` acts on: a metric's name, or loss.
        predict: What the network makes of a sample; None: what `predict_by_class` finds.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerConfig | None = None,
        schedule: ScheduleConfig | None = None,
        n_steps: int = 1,
        loss: str | dict[str, Any] | Pairwise = "l1",
        stream: BatchStream | None = None,
        seed: int = 0,
        *,
        average: AverageConfig | None = None,
        l1_weight: float = 0.01,
        monitor: str = "ssim",
        freeze: Sequence[str] = (),
        predict: Predict | None = None,
    ) -> None:
        super().__init__()
        self.model, self.predict = model, predict or predict_by_class(model)
        self.frozen = freeze_parts(model, freeze)
        self.average = average or AverageConfig()
        self.evaluated = EvaluatedWeights(self, make_average(self.average, n_steps), self._recalibrate)
        self.recalibration_batches: Callable[[int], Iterable[Sample]] | None = None
        self.optimizer, self.schedule = optimizer or OptimizerConfig(), schedule or ScheduleConfig()
        self.n_steps, self.seed, self.monitor = n_steps, seed, monitor
        self.loss = make_loss(loss, l1_weight)
        self.stream = stream
        self.first_loss: float | None = None
        self.last_batch = BatchNote(float("nan"), 0)  # of those that were read
        self.on_loss_read: Callable[[BatchNote], None] = lambda _note: None  # gets each when it is read, in order
        self._unread: list[_Unread] = []
        if self.frozen.norms:
            self.train(model.training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but for frozen BatchNorm layers."""
        super().train(mode)
        for name in self.frozen.norms:
            self.model.get_submodule(name).eval()
        return self

    def forward(self, sample: Sample) -> Tensor:
        """Return reconstructions `(batch, height, width)` in the units of the target."""
        return self.predict(self.model, sample).image

    def sample_loss(self, sample: Sample, prediction: Prediction | None = None) -> Tensor:
        """Compute the mean loss of a batch, images `(batch, height, width)`; `prediction` where it was made before.

        Losses of normalised values see the target as fastMRI's U-Net: with the statistics of the input, and clamped.
        """
        target = normalize(sample.target, sample.mean, sample.std)
        image, normalized = prediction or self.predict(self.model, sample)
        data_range = torch.as_tensor(sample.data_range, device=image.device)
        with torch.autocast(image.device.type, enabled=False):
            return self.loss(LossInput(normalized, target, image, sample.target, data_range))

    def add_scores(
        self,
        metrics: VolumeMetrics,
        sample: Sample,
        volumes: Sequence[str] | Sequence[int],
        clamps_target: bool = False,
    ) -> tuple[Prediction, Tensor]:
        """Add a batch's slices to `metrics`.

        Args:
            metrics: Gets them.
            sample: A collated batch on this module's device, images `(batch, height, width)`.
            volumes: What `metrics` calls the volume of each slice.
            clamps_target: Score against the target as losses see it, clamped.

        Returns:
            The prediction, and the mean loss of the batch.
        """
        prediction = self.predict(self.model, sample)
        target = scored_target(sample, clamps_target)
        data_range, slice_idx = torch.as_tensor(sample.data_range), torch.as_tensor(sample.slice_idx)
        metrics.update(target, prediction.image, data_range, volumes, slice_idx, sample.object_mask)
        return prediction, self.sample_loss(sample, prediction)

    def setup(self, stage: str) -> None:
        """Ask the Trainer's data module for the batches, and for those to recalibrate with."""
        data = getattr(self.trainer, "datamodule", None)
        self.recalibration_batches = self.recalibration_batches or getattr(data, "recalibration_batches", None)
        stream = getattr(data, "stream", None)
        if self.stream is None and isinstance(stream, BatchStream):
            self.stream = stream

    def on_train_start(self) -> None:
        self._unread = []  # of a training that ended in an error

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        # Dropout of batch k does not depend on what ran before it. A plain Trainer counts anew in each epoch.
        number = (self.current_epoch, batch_idx) if self.current_epoch else batch_idx
        torch.manual_seed(hash((self.seed, number, self.global_rank)) % 2**63)
        if self.stream is not None:
            count_batches_of(self, self.stream.size(batch_idx))

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Compute the weighted mean loss of a batch, images `(batch, height, width)`.

        Raises:
            DivergedError: From `read_losses`, where it is time.
        """
        loss = self.sample_loss(batch)
        weight = 1.0
        if self.stream is not None:
            weight = self.stream.weight(batch_idx, self.trainer.accumulate_grad_batches)
        self._unread.append(_Unread(self.global_step, loss.detach(), weight, len(batch.image) if weight else 0))
        if len(self._unread) >= self._read_every():
            self.read_losses()
        return loss * weight

    def _read_every(self) -> int:
        """Batches; 1 where reading waits for nothing: the loss is in this machine's memory and no process is asked."""
        return 1 if self.device.type == "cpu" and not ranks.in_group() else READ_EVERY

    def read_losses(self) -> None:
        """Read the losses of the batches since the last call, with one wait for the device and one for the processes.

        All processes have to call it after the same batches.

        Raises:
            DivergedError: A loss is not finite or a thousand times the first one, on all processes together.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        values = torch.stack([batch.loss.double() for batch in unread]).tolist()
        own = [(v, v * batch.weight, batch.n_slices) for v, batch in zip(values, unread, strict=True)]
        summed = ranks.sum_of([number for numbers in own for number in numbers])
        n = ranks.world_size()
        for batch, loss, weighted, n_slices in zip(unread, *(summed[k::3] for k in range(3)), strict=True):
            self._stop_if_diverged(loss / n, batch.step)
            self.last_batch = BatchNote(weighted / n, int(n_slices))
            self.on_loss_read(self.last_batch)

    def on_train_end(self) -> None:
        """Read the losses that are left."""
        self.read_losses()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.evaluated.update()

    @contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        """Put the weights that are evaluated in place: the averages, where there are any."""
        with self.evaluated.in_place():
            yield

    def observe(self, scores: Mapping[str, float]) -> None:
        """Tell the schedule the scores of a validation (val_ssim, ...); only `plateau` listens, to `monitor`."""
        schedule = self.lr_schedulers()
        if isinstance(schedule, PlateauLR):
            schedule.observe(goodness(self.monitor, scores[f"val_{self.monitor}"]))

    def on_validation_start(self) -> None:
        """Put the evaluated weights in place, under a plain Trainer."""
        self.read_losses()
        take_buffers_of_the_first(self)
        self._swapped = self.evaluated_weights()
        self._swapped.__enter__()

    def on_validation_end(self) -> None:
        """Put the trained weights back, after all callbacks that save."""
        self._swapped.__exit__(None, None, None)

    on_predict_start, on_predict_end = on_validation_start, on_validation_end

    def on_validation_epoch_start(self) -> None:
        """Begin the scores of a plain Trainer; `mrirecon train` validates at exact steps instead, in `loop`."""
        from torchmetrics import MeanMetric

        self._val_metrics = VolumeMetrics(metrics=validation_metrics(self.monitor))
        self._val_loss = MeanMetric().to(self.device)
        if self.device.type == "cuda":  # a Trainer's own group of processes has no way for CPU tensors there
            self._val_metrics = self._val_metrics.to(self.device)

    def validation_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score a batch, images `(batch, height, width)`."""
        names = [f"{dataloader_idx} {name}" for name in batch.volume]
        # the same numbers on every process, whatever volumes it has; exact in double precision
        volumes = [int.from_bytes(sha256(name.encode()).digest()[:6]) for name in names]
        _, loss = self.add_scores(self._val_metrics, batch, volumes)
        self._val_loss.update(loss, len(batch.image))

    def on_validation_epoch_end(self) -> None:
        """Log the means over volumes (val_ssim and others), and over slices as val_loss."""
        mean = mean_score(self._val_metrics.compute().values())
        scores = {f"val_{name}": value for name, value in mean.scores.items()}
        scores["val_loss"] = self._val_loss.compute().item()
        self.log_dict(scores, sync_dist=True, reduce_fx="max")  # they are equal on all processes
        if not self.trainer.sanity_checking:
            self.observe(scores)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the averages, and the first loss, which a diverging one is held against; no state after a bad one."""
        self.read_losses()
        self.evaluated.save(checkpoint)
        checkpoint["first_loss"] = self.first_loss

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back the trained weights and the first loss to go on training; else keep the averages as saved."""
        trainer = self._trainer
        if trainer is None or trainer.state.fn != TrainerFn.FITTING:
            return
        self.evaluated.load(checkpoint)
        self.first_loss = checkpoint.get("first_loss")

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """Build the optimizer, and a schedule that moves every optimizer step."""
        config = self.optimizer.with_lr()
        if isinstance(config.lr, str):
            raise InputError("optimizer.lr is find, which mrirecon train replaces by a number; give a number here")
        optimizer = make_optimizer(
            config.name,
            self.model,
            config.lr,
            config.weight_decay,
            **config.options,
        )
        if has_modes(optimizer):
            if self.average.name != "none":
                raise InputError(f"{config.name} averages by itself; leave average.name ({self.average.name}) at none")
            self.evaluated.average = OptimizerAverage(optimizer)
        schedule = make_schedule(optimizer, self.schedule, self.n_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _recalibrate(self) -> None:
        """Measure BatchNorm's statistics of the weights that are in place, in the precision of the training."""
        if self.recalibration_batches is None:
            raise InputError(
                "averaged weights of a network with BatchNorm need batches to recalibrate it with: give the Trainer a "
                "ReconDataModule, or set module.recalibration_batches (a function of their number)"
            )
        kept = [self.model.get_submodule(name) for name in self.frozen.norms]
        layers = [layer for layer in batch_norms(self) if layer not in kept]
        batches = self.recalibration_batches(self.average.bn_batches) if layers else ()
        trainer = self._trainer
        with trainer.precision_plugin.forward_context() if trainer else nullcontext():
            recalibrate(self, layers, batches)

    def _stop_if_diverged(self, loss: float, step: int) -> None:
        if self.first_loss is None:
            self.first_loss = loss
        if not loss < float("inf") or loss > 1000 * max(abs(self.first_loss), 1e-12):
            raise DivergedError(
                f"training diverged at step {step}: loss {loss:.3g} (first {self.first_loss:.3g}); "
                f"lower --lr (now {self.optimizer.lr:g}), add --clip 1 or --schedule.warmup 0.1. "
                "The last good checkpoint, if there was one, is kept.",
                step,
            )
