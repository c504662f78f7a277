"""Which statistics BatchNorm normalises with when a trained network is scored."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mrirecon.config import TrainConfig
from mrirecon.data.transforms import TRANSFORMS, ImageSample
from mrirecon.errors import unknown_name
from mrirecon.progress import progress, warn
from mrirecon.training.batchnorm import recalibrate

BN_STATS = ("running", "batch", "recalibrated")
N_BATCHES = 200  # enough for a mean over batches; a smaller training set gives fewer


def set_bn_stats(module: nn.Module, kind: str, trained: TrainConfig, data: str = "") -> None:
    """Set the BatchNorm layers of a trained network to `running`, `batch` or `recalibrated` statistics.

    - running: the moving average that training left.
    - batch: of the batch being reconstructed; results then depend on the batch size.
    - recalibrated: the mean over up to 200 training batches with training masks, the first epoch's, of the
      size that was normalised together in training; dropout off. Deterministic.

    Networks without BatchNorm stay as they are.

    Args:
        module: Called with a collated `ImageSample`.
        kind: One of `BN_STATS`.
        trained: The configuration it was trained with: the source of the training batches.
        data: Data folder to use where that of the training is gone.

    Raises:
        InputError: Unknown kind, or no training data to recalibrate with.
    """
    if kind not in BN_STATS:
        raise unknown_name("BatchNorm statistics", kind, BN_STATS)
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if kind == "running":
        return
    if not layers:
        warn(f"note: --bn-stats {kind} has no effect, the network has no BatchNorm")
    elif kind == "batch":
        warn("note: --bn-stats batch: the results depend on the batch size")
        _use_batch(layers)
    else:
        recalibrate(module, layers, _training_batches(trained, data))


def _use_batch(layers: Iterable[_BatchNorm]) -> None:
    for layer in layers:
        layer.track_running_stats = False  # without buffers, torch normalises by the batch in eval mode too
        layer.running_mean = layer.running_var = None


def _training_batches(trained: TrainConfig, data: str) -> Iterable[ImageSample]:
    from mrirecon.data.datamodule import ReconDataModule  # which needs Lightning

    config = trained.data
    if data and not Path(config.path).is_dir():
        config = replace(config, path=data)
    transform = TRANSFORMS[trained.model.input]
    together = trained.batch_size * (trained.devices * trained.num_nodes if trained.sync_batchnorm else 1)
    module = ReconDataModule(
        config, trained.batch_size, seed=trained.seed, transform=transform, normalised_together=together
    )
    return progress(module.recalibration_batches(N_BATCHES), "recalibrating BatchNorm", unit="batches")
