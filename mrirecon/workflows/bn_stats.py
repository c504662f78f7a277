"""Which statistics BatchNorm normalises with when a trained network is scored."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mrirecon.config import TrainConfig
from mrirecon.data.datamodule import ReconDataModule
from mrirecon.data.transforms import ImageSample, to_device
from mrirecon.errors import unknown_name
from mrirecon.progress import progress

BN_STATS = ("running", "batch", "recalibrated")
N_BATCHES = 200  # enough for a mean over batches; a smaller training set gives fewer


def set_bn_stats(module: nn.Module, kind: str, trained: TrainConfig, data: str = "") -> None:
    """Set the BatchNorm layers of a trained network to `running`, `batch` or `recalibrated` statistics.

    - running: the moving average that training left.
    - batch: of the batch being reconstructed; results then depend on the batch size.
    - recalibrated: the mean over up to 200 training batches with training masks, the first epoch's, of the
      trained batch size; dropout off. Deterministic.

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
        print(f"note: --bn-stats {kind} has no effect, the network has no BatchNorm", file=sys.stderr)
    elif kind == "batch":
        print("note: --bn-stats batch: the results depend on the batch size", file=sys.stderr)
        _use_batch(layers)
    else:
        recalibrate(module, layers, _training_batches(trained, data))


def recalibrate(module: nn.Module, layers: Iterable[_BatchNorm], batches: Iterable[ImageSample]) -> None:
    """Replace running statistics by their mean over `batches` (as `torch.optim.swa_utils.update_bn`).

    Unlike there, only BatchNorm is in training mode, so that dropout stays off.
    """
    layers, device = list(layers), next(module.parameters()).device
    module.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for a cumulative mean
        layer.train()
    with torch.inference_mode():
        for batch in batches:
            module(to_device(batch, device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.eval()


def _use_batch(layers: Iterable[_BatchNorm]) -> None:
    for layer in layers:
        layer.track_running_stats = False  # without buffers, torch normalises by the batch in eval mode too
        layer.running_mean = layer.running_var = None


def _training_batches(trained: TrainConfig, data: str) -> Iterable[ImageSample]:
    config = trained.data
    if data and not Path(config.path).is_dir():
        config = replace(config, path=data)
    module = ReconDataModule(config, trained.batch_size, seed=trained.seed)
    module.plan(min(N_BATCHES, len(module.stream)))
    return progress(module.train_dataloader(), "recalibrating BatchNorm", unit="batches")
