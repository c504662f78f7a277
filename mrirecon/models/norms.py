"""Normalization layers by name; every one takes the channel count first and keeps statistics in single precision.

On a CPU the network runs channels-last where that is faster (see below). There, torch's group norm computes a
variance as `E[x^2] - E[x]^2`, which is noise once the mean is 100 standard deviations; the one here does not.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mrirecon.classpaths import construct
from mrirecon.errors import InputError
from mrirecon.models.groups import count_groups
from mrirecon.tables.entry import builder, named
from mrirecon.tables.norms import NORMS

Norm = str | Mapping[str, Any] | Callable[[int], nn.Module]


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm (Ulyanov et al. 2016) of (batch, channels, height, width), without running statistics.

    Equals `torch.nn.InstanceNorm2d` in every layout (tested), and has the right gradient in every layout (tested):
    torch's own is wrong on a CPU, without a word, for one sample and a channels-last gradient (torch 2.14).
    """

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = scale_and_shift(input, self.weight, self.bias)
        if is_channels_last(input):
            return instance_norm(input, weight, bias, self.eps)
        if input.is_cpu and not torch.compiler.is_exporting():  # as a graph, group norm fixes the size
            return F.group_norm(input, self.num_features, weight, bias, self.eps)
        return F.instance_norm(input, weight=weight, bias=bias, eps=self.eps)


class InstanceNormLeakyReLU(InstanceNorm):
    """Instance norm of (batch, channels, height, width) without scale and shift, then LeakyReLU (Maas et al. 2013).

    It may write over its input."""

    def __init__(self, n_channels: int, eps: float, negative_slope: float) -> None:
        super().__init__(n_channels, eps=eps)
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        if is_channels_last(input):
            return instance_norm_leaky_relu_(input, self.eps, self.negative_slope)
        return F.leaky_relu(super().forward(input), self.negative_slope, inplace=True)


class GroupNorm(nn.GroupNorm):
    """Group norm (Wu & He 2018) of (batch, channels, height, width), with the channel count first.

    Equals `torch.nn.GroupNorm` in every layout (tested)."""

    def __init__(self, n_channels: int, n_groups: int, affine: bool = False, eps: float = 1e-5) -> None:
        super().__init__(n_groups, n_channels, eps=eps, affine=affine)

    def forward(self, input: Tensor) -> Tensor:
        if is_channels_last(input):
            # The result does not depend on what is subtracted from a group, so no gradient goes through it.
            input = input - self._group_means(input.detach())
        weight, bias = scale_and_shift(input, self.weight, self.bias)
        if torch.compiler.is_exporting() and self.num_groups == self.num_channels:  # as a graph, it fixes the size
            return F.instance_norm(input, weight=weight, bias=bias, eps=self.eps)
        return F.group_norm(input, self.num_groups, weight, bias, self.eps)

    def _group_means(self, input: Tensor) -> Tensor:
        """Compute the mean of each channel's group, (batch, channels, 1, 1), rounded to the type of `input`."""
        means = input.mean((2, 3), dtype=torch.float32).unflatten(1, (self.num_groups, -1))
        means = means.mean(2, keepdim=True).expand_as(means).flatten(1)
        return means[:, :, None, None].to(input.dtype)


def batch(n_channels: int, affine: bool, eps: float) -> nn.Module:
    """Make a batch norm (Ioffe & Szegedy 2015)."""
    return nn.BatchNorm2d(n_channels, affine=affine, eps=eps)


def instance(n_channels: int, affine: bool, eps: float) -> nn.Module:
    """Make an instance norm (Ulyanov et al. 2016)."""
    return InstanceNorm(n_channels, affine=affine, eps=eps)


def group(
    n_channels: int, affine: bool, eps: float, channels_per_group: int | None = None, n_groups: int | None = None
) -> nn.Module:
    """Make a group norm (Wu & He 2018) with the groups of `count_groups`."""
    return GroupNorm(n_channels, count_groups(n_channels, channels_per_group, n_groups), affine=affine, eps=eps)


def layer(n_channels: int, affine: bool, eps: float) -> nn.Module:
    """Make a layer norm of images (Ba et al. 2016): one group over channels, height and width."""
    return GroupNorm(n_channels, 1, affine=affine, eps=eps)


def none(n_channels: int, affine: bool, eps: float) -> nn.Module:
    """Make no normalization: equals torch's `nn.Identity`, on any shape."""
    return nn.Identity()


def make_norm(
    norm: Norm,
    n_channels: int,
    *,
    affine: bool = False,
    eps: float = 1e-5,
    channels_per_group: int | None = None,
    n_groups: int | None = None,
) -> nn.Module:
    """Make a norm layer for tensors (batch, n_channels, height, width).

    Args:
        norm: One of `NORMS`, a callable n_channels -> module, or a mapping {class_path, init_args} of a class that
            takes the channel count first. "layer" is one group over channels, height and width (as Wu & He 2018
            have it); its scale and shift, like all others here, are per channel.
        n_channels: Channels of the input.
        affine: Learn a scale and a shift per channel (only for names: a class or a callable decides by itself).
        eps: Added to the variance (only for names).
        channels_per_group: "group" only; see `count_groups`.
        n_groups: "group" only; see `count_groups`.

    Raises:
        InputError: An unknown name, or an option that the norm does not have.
    """
    hint = "Or pass a callable n_channels -> nn.Module, or {class_path: torch.nn.BatchNorm2d}."
    entry = None if callable(norm) or isinstance(norm, Mapping) else named(NORMS, norm, "norm", hint)
    given = {"channels_per_group": channels_per_group, "n_groups": n_groups}
    options = {key: value for key, value in given.items() if value is not None}
    for key in options:
        if entry is None or key not in entry.options:
            having = " or ".join(f"'{name}'" for name, other in NORMS.items() if key in other.options)
            raise InputError(f"norm '{norm}' has no option {' and '.join(options)}; that is for norm {having}")
    if callable(norm) or isinstance(norm, Mapping):
        if affine:
            raise InputError("affine is an option of the named norms; set it in the class or callable instead")
        return norm(n_channels) if callable(norm) else construct(norm, n_channels)
    module: nn.Module = builder(NORMS[norm].build)(n_channels, affine=affine, eps=eps, **options)
    return module


# ---- channels-last, the memory format in which a CPU's convolutions are fast, and instance norms for it
#
# torch's own instance norm copies a channels-last tensor to the other layout and back. But one sample's instance norm
# is its batch norm, for which torch has channels-last kernels.


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
    return _joined([F.batch_norm(x, None, None, weight, bias, training=True, eps=eps) for x in image.split(1)])


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
        return _joined(grads), None, None


def _joined(samples: list[Tensor]) -> Tensor:
    """Return samples (1, channels, height, width) as one batch; one alone is not copied, as torch.cat does."""
    return samples[0] if len(samples) == 1 else torch.cat(samples)


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
