"""Channels-last, the memory format in which a CPU's convolutions are fast, and instance norms for it.

torch's own instance norm copies a channels-last tensor to the other layout and back. But one sample's instance norm
is its batch norm, for which torch has channels-last kernels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_batch_norm_backward = torch.ops.aten.native_batch_norm_backward.default
_leaky_relu_backward = torch.ops.aten.leaky_relu_backward.default


def fast_layout(image: Tensor, n_channels: int) -> Tensor:
    """Return `image` (batch, channels, height, width) in the layout that suits a convolution to `n_channels`.

    On a CPU that is channels-last (https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html): 3
    times as fast for wide images with few channels, still ahead with many. There, in single precision, it is not used,
    for its kernels add up all products of a pixel one by one: an error of 1e-6 in place of 2e-7 for a sum over 512
    channels.
    """
    if not image.is_cpu or torch.compiler.is_compiling():
        return image
    if n_channels <= 64 or torch.is_autocast_enabled("cpu"):
        return image.to(memory_format=torch.channels_last)
    return image.contiguous()


def is_channels_last(image: Tensor) -> bool:
    """Tell whether (batch, channels, height, width) is channels-last on a CPU, where torch's norm layers do badly."""
    if torch.compiler.is_exporting():  # a graph is of no layout
        return False
    return image.is_cpu and not image.is_contiguous() and image.is_contiguous(memory_format=torch.channels_last)


def scale_and_shift(image: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return weight and bias (channels,) with which a norm kernel keeps its statistics in single precision.

    On a CPU, torch keeps them in the type of the weight, and without one in that of the image: rounded to bfloat16,
    a standard deviation is wrong by up to 0.4 %. So half-precision images get ones and zeros.
    """
    if weight is not None or not image.is_cpu or image.dtype not in (torch.bfloat16, torch.float16):
        return weight, bias
    return torch.ones(image.shape[1]), torch.zeros(image.shape[1])


def instance_norm(image: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise each channel of each sample of a channels-last (batch, channels, height, width) (Ulyanov et al. 2016).

    Weight and bias as of `scale_and_shift`. Equals `torch.nn.functional.instance_norm`.
    """
    samples = image.split(1)
    return torch.cat([F.batch_norm(x, None, None, weight, bias, training=True, eps=eps) for x in samples])


def instance_norm_leaky_relu_(image: Tensor, eps: float, negative_slope: float) -> Tensor:
    """Normalise each channel, then LeakyReLU, written over a channels-last (batch, channels, height, width).

    Only the result is kept for the gradient: LeakyReLU can be inverted, and the norm's gradient needs its output only
    (in-place activated batch norm, Rota Bulo et al. 2018). So a training step needs half the
    memory for activations, which on a CPU is also time.
    """
    return _InstanceNormLeakyReLU.apply(image, eps, negative_slope)


class _InstanceNormLeakyReLU(Function):
    """`instance_norm_leaky_relu_` with its gradient, from the output alone (Rota Bulo et al. 2018)."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, eps: float, negative_slope: float) -> Tensor:
        normalise_ = _whole_batch_ if image.dtype in (torch.float32, torch.float64) else _by_sample_
        invstd = normalise_(image, eps)
        F.leaky_relu_(image, negative_slope)
        ctx.mark_dirty(image)
        ctx.negative_slope = negative_slope
        ctx.save_for_backward(image, invstd)
        return image

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        image, invstd = ctx.saved_tensors
        mean, one, only_image = torch.zeros_like(invstd[0]), torch.ones_like(invstd[0]), [True, False, False]
        grads = []
        for g, y, scale in zip(grad.split(1), image.split(1), invstd, strict=True):
            normalised = F.leaky_relu(y, 1 / ctx.negative_slope)
            inner = _leaky_relu_backward(g, y, ctx.negative_slope, True).contiguous(memory_format=torch.channels_last)
            # The input was the normalised image times 1 / scale: a batch norm with mean 0, deviation 1 and a weight.
            found = _batch_norm_backward(inner, normalised, scale, None, None, mean, one, True, 0.0, only_image)
            grads.append(found[0])
        return torch.cat(grads), None, None


def _by_sample_(image: Tensor, eps: float) -> Tensor:
    """Normalise half precision in place; return 1 / deviation, (batch, channels), in single precision."""
    weight, bias = scale_and_shift(image, None, None)
    mean, invstd = torch.empty((2, *image.shape[:2]))
    for x, *statistics in zip(image.split(1), mean, invstd, strict=True):
        torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps, out=(x, *statistics))
    return invstd


def _whole_batch_(image: Tensor, eps: float) -> Tensor:
    """Normalise single and double precision in place, by pairwise sums; return 1 / deviation, (batch, channels)."""
    image -= image.mean((2, 3), keepdim=True)
    invstd = (image.square().mean((2, 3), keepdim=True) + eps).rsqrt()
    image *= invstd
    return invstd.flatten(1)
