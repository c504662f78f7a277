"""BatchNorm in training: its statistics over several processes, and measured anew for averaged weights."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mrirecon import ranks
from mrirecon.data.samples import Sample, to_device


class SyncBatchNorm(_BatchNorm):
    """BatchNorm (Ioffe & Szegedy 2015) as one process with the batches of all would do it, on any device.

    Equals `torch.nn.SyncBatchNorm`, which needs GPUs, also where batches are unequal.

    Parameters, buffers and their names are those of `nn.BatchNorm2d`. Two sums over the processes are taken, one for
    the means and one for the variances.

    Attributes:
        synchronises: Off: this process normalises with its own batch, as `nn.BatchNorm2d` does.
        n_counted: Processes whose batches count, the first ones; the others only get the result.
    """

    synchronises = True
    n_counted = 2**31

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `input` `(batch, channels, ...)` (Ioffe & Szegedy 2015), in training over all processes."""
        if not self._is_shared():
            return _BatchNorm.forward(self, input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalised(input.to(torch.promote_types(input.dtype, torch.float32))).to(input.dtype)

    def _is_shared(self) -> bool:
        return self.training and self.synchronises and ranks.world_size() > 1

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected (batch, channels, ...), got {tuple(input.shape)}")

    def _normalised(self, input: Tensor) -> Tensor:
        counts = float(ranks.rank() < self.n_counted)
        axes = [0, *range(2, input.dim())]
        sums = torch.cat([input.sum(axes), input.new_tensor([input.numel() / input.shape[1]])]) * counts
        total = _SumOverProcesses.apply(sums)
        n = total[-1].detach()
        mean = total[:-1] / n
        centred = input - _per_channel(mean, input)
        variance = _SumOverProcesses.apply(centred.square().sum(axes) * counts) / n
        self._track(mean.detach(), variance.detach(), n)
        output = centred * _per_channel((variance + self.eps).rsqrt(), input)
        if self.weight is not None:
            output = output * _per_channel(self.weight, input) + _per_channel(self.bias, input)
        return output

    def _track(self, mean: Tensor, variance: Tensor, n: Tensor) -> None:
        """Update running statistics `(channels,)`, with the unbiased variance, as torch keeps them."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_((variance * n / (n - 1).clamp(min=1)).to(self.running_var), share)


class GpuSyncBatchNorm(SyncBatchNorm, nn.SyncBatchNorm):
    """`SyncBatchNorm` by torch's kernels for GPUs, wherever the batches of all processes count."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `input` `(batch, channels, ...)` (Ioffe & Szegedy 2015), where possible by torch's kernels."""
        if self._is_shared() and self.n_counted >= ranks.world_size():
            return nn.SyncBatchNorm.forward(self, input)
        return SyncBatchNorm.forward(self, input)


def synchronised(module: nn.Module, device: str) -> nn.Module:
    """Replace each batch norm of `module` by one over all processes with the same parameters and buffers; return it.

    It equals `torch.nn.SyncBatchNorm.convert_sync_batchnorm` but for the class of the layers.

    Args:
        module: A network, which is changed.
        device: cpu or cuda.
    """
    if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
        kind = GpuSyncBatchNorm if device == "cuda" else SyncBatchNorm
        new = kind(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
        new.weight, new.bias = module.weight, module.bias
        new.running_mean, new.running_var = module.running_mean, module.running_var
        new.num_batches_tracked = module.num_batches_tracked
        return new.train(module.training)
    for name, child in module.named_children():
        replaced = synchronised(child, device)
        if replaced is not child:
            setattr(module, name, replaced)
    return module


def count_batches_of(module: nn.Module, n_processes: int) -> None:
    """Count only the slices of the first `n_processes` in the next batch; those of the others are repeats."""
    for layer in module.modules():
        if isinstance(layer, SyncBatchNorm):
            layer.n_counted = n_processes


class _SumOverProcesses(torch.autograd.Function):
    """Sum over the processes; its gradient is the sum of theirs, for every process has used it."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone()
        torch.distributed.all_reduce(summed)
        return summed


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (like.dim() - 2))


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers with running statistics."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


def recalibrate(module: nn.Module, layers: Iterable[_BatchNorm], batches: Iterable[Sample]) -> None:
    """Replace running statistics `(channels,)` by their mean over `batches`.

    As `torch.optim.swa_utils.update_bn` (Izmailov et al. 2018; "precise BatchNorm" of Wu & Johnson 2021).

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
    """Give all processes the buffers of the first one: running statistics are each one's own without SyncBatchNorm.

    `DistributedDataParallel` does so before each forward pass, where `broadcast_buffers` is set
    (https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html).
    """
    if ranks.world_size() > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _synchronise(layer: _BatchNorm, on: bool) -> None:
    if isinstance(layer, SyncBatchNorm):
        layer.synchronises = on
