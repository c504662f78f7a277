"""The memory layout in which a CPU's convolutions are fast, and an instance norm for it.

torch's own instance norm copies a channels-last tensor to the other layout and back. One sample's instance norm is
its batch norm, for which torch has channels-last kernels; added here is that they write into one result for all
samples, and that statistics of single precision are summed pairwise (the kernels add the pixels up one by one, which
costs two digits).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_batch_norm = torch.ops.aten.native_batch_norm
_batch_norm_backward = torch.ops.aten.native_batch_norm_backward


def fast_layout(image: Tensor, n_channels: int) -> Tensor:
    """`image` in the layout that suits a convolution to `n_channels` on its device.

    On a CPU that is channels-last: 3 times as fast for wide images with few channels, still ahead with many. There,
    in single precision, it is not used, for its kernels add up all products of a pixel one by one: an error of 1e-6
    in place of 2e-7 for a sum over 512 channels.
    """
    if not image.is_cpu or torch.compiler.is_compiling():
        return image
    if n_channels <= 64 or torch.is_autocast_enabled("cpu"):
        return image.to(memory_format=torch.channels_last)
    return image.contiguous()


def is_channels_last(image: Tensor) -> bool:
    """Whether torch's norm layers would do badly: a channels-last image on a CPU."""
    return image.is_cpu and not image.is_contiguous() and image.is_contiguous(memory_format=torch.channels_last)


def scale_and_shift(image: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Weight and bias (channels,) that a norm kernel needs to keep its statistics in single precision.

    On a CPU, torch keeps them in the type of the weight, and without one in that of the image: rounded to bfloat16,
    a standard deviation is wrong by up to 0.4 %. So half-precision images get ones and zeros.
    """
    if weight is not None or not image.is_cpu or image.dtype not in (torch.bfloat16, torch.float16):
        return weight, bias
    return torch.ones(image.shape[1]), torch.zeros(image.shape[1])


def instance_norm(image: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Instance norm of a channels-last (batch, channels, height, width); see `scale_and_shift` for the others."""
    return _InstanceNorm.apply(image, weight, bias, eps)


class _InstanceNorm(Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        normalise = _whole_batch if image.dtype in (torch.float32, torch.float64) else _by_sample
        output, mean, invstd = normalise(image, weight, bias, eps)
        ctx.eps = eps
        ctx.save_for_backward(image, weight, mean, invstd)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        image, weight, mean, invstd = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        wanted = list(ctx.needs_input_grad[:3])
        samples = zip(grad.split(1), image.split(1), mean, invstd, strict=True)
        grads = [_batch_norm_backward(g, x, weight, None, None, m, s, True, ctx.eps, wanted) for g, x, m, s in samples]
        images, weights, biases = zip(*grads, strict=True)
        return (
            torch.cat(images) if wanted[0] else None,
            sum(weights) if wanted[1] else None,
            sum(biases) if wanted[2] else None,
            None,
        )


def _by_sample(image: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
    output = torch.empty_like(image)
    statistics = torch.empty((2, *image.shape[:2]), dtype=image.dtype if weight is None else weight.dtype)
    for x, y, mean, invstd in zip(image.split(1), output.split(1), *statistics, strict=True):
        out = {"out": y, "save_mean": mean, "save_invstd": invstd}
        _batch_norm.out(x, weight, bias, None, None, True, 0.0, eps, **out)
    return output, *statistics


def _whole_batch(image: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
    mean = image.mean((2, 3), keepdim=True)
    output = image - mean
    invstd = (output.square().mean((2, 3), keepdim=True) + eps).rsqrt()
    output *= invstd
    if weight is not None and bias is not None:
        output = output.mul_(weight[:, None, None]).add_(bias[:, None, None])
    return output, mean.flatten(1), invstd.flatten(1)
