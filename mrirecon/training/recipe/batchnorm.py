"""Running statistics of BatchNorm measured anew, for weights that no training step has seen."""

from collections.abc import Iterable

import torch
import torch.distributed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mrirecon import ranks
from mrirecon.data.samples import Sample, to_device
from mrirecon.training.recipe.sync_batchnorm import SyncBatchNorm


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The layers with running statistics."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


def recalibrate(module: nn.Module, layers: Iterable[_BatchNorm], batches: Iterable[Sample]) -> None:
    """Replace running statistics by their mean over `batches` (as `torch.optim.swa_utils.update_bn`).

    Unlike there, only BatchNorm is in training mode, so that dropout stays off. `module` is left in eval mode. Each
    process measures for itself, all on the same batches.
    """
    layers, device = list(layers), next(module.parameters()).device
    module.eval()
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's word for a cumulative mean
            _synchronise(layer, False)
            layer.train()
        with torch.no_grad():
            for batch in batches:
                module(to_device(batch, device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            _synchronise(layer, True)
        module.eval()


def take_buffers_of_the_first(module: nn.Module) -> None:
    """Running statistics are each process's own unless BatchNorm is synchronised; those of the first one count."""
    if ranks.world_size() > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _synchronise(layer: _BatchNorm, on: bool) -> None:
    if isinstance(layer, SyncBatchNorm):
        layer.synchronises = on
