"""The networks in a form that `torch.export` can trace for images of any size, real numbers only.

The forward passes of `UNet` and `NormUNet` ask questions about sizes (is it too small? does a row miss?) that fix the
size when they are traced; what is here computes the same (tested) without asking.
"""

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrirecon.models.norms import InstanceNorm, InstanceNormLeakyReLU
from mrirecon.models.normunet import NormUNet, standardise
from mrirecon.models.unet import UNet

Network = TypeVar("Network", bound=nn.Module)
_MULTIPLE = 16  # what a NormUNet pads to


def plain_norms(model: Network) -> Network:
    """A copy of `model` with torch's own instance norms, and no dropout; the names of the weights stay."""
    copied = copy.deepcopy(model)
    for parent in list(copied.modules()):
        for name, layer in parent.named_children():
            setattr(parent, name, _plain(layer))
    return copied.eval()


def run_unet(unet: UNet, image: Tensor) -> Tensor:
    """`unet(image)`; an image that is too small is not noticed."""
    output, skips = image, list[Tensor]()
    for down in unet.down_sample_layers:
        skips.append(down(output))
        output = F.avg_pool2d(skips[-1], kernel_size=2)
    output = unet.conv(output)
    for transpose_conv, conv in zip(unet.up_transpose_conv, unet.up_conv, strict=True):
        skip = skips.pop()
        output = conv((_match(transpose_conv(output), skip), skip))
    return output + image if unet.residual else output


def run_normunet(model: NormUNet, parts: Tensor) -> Tensor:
    """What `model` makes of images `(batch, parts, height, width)`: one part if real, real and imaginary if complex."""
    mean, std = statistics(parts)
    height, width = parts.shape[-2:]
    (top, bottom), (left, right) = _padding(height), _padding(width)
    padded = F.pad(standardise(parts, mean, std), (left, right, top, bottom))
    output = run_unet(model.unet, padded)
    rows, columns = torch.arange(height) + top, torch.arange(width) + left
    output = output.index_select(-2, rows.to(output.device)).index_select(-1, columns.to(output.device))
    return output * std + mean


def statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation over height and width, which stay as axes of length 1.

    Computed in double; the deviation of a constant image is 0.
    """
    values = image.double()
    mean, std = values.mean((-2, -1), keepdim=True), values.std((-2, -1), keepdim=True)
    is_constant = values.amax((-2, -1), keepdim=True) == values.amin((-2, -1), keepdim=True)
    std = torch.where(is_constant, torch.zeros_like(std), std)
    return mean.to(image.dtype), std.to(image.dtype)


def magnitude(parts: Tensor) -> Tensor:
    """`(batch, height, width)` of real and imaginary part `(batch, 2, height, width)`.

    In double, where the square of no single-precision number over- or underflows.
    """
    return parts.double().square().sum(1).sqrt().to(parts.dtype)


def _plain(layer: nn.Module) -> nn.Module:
    if isinstance(layer, InstanceNormLeakyReLU):
        return nn.Sequential(nn.InstanceNorm2d(layer.num_features, layer.eps), nn.LeakyReLU(layer.negative_slope))
    if isinstance(layer, nn.Dropout2d):
        return nn.Identity()
    if isinstance(layer, InstanceNorm):
        return _with_weights_of(layer, nn.InstanceNorm2d(layer.num_features, layer.eps, affine=layer.affine))
    if isinstance(layer, nn.GroupNorm) and layer.num_groups == layer.num_channels:
        return _with_weights_of(layer, nn.InstanceNorm2d(layer.num_channels, layer.eps, affine=layer.affine))
    return layer


def _with_weights_of(layer: nn.Module, plain: nn.Module) -> nn.Module:
    plain.load_state_dict(layer.state_dict())
    return plain


def _match(image: Tensor, skip: Tensor) -> Tensor:
    """`image` at the size of `skip`, which has a row or a column more or not: reflected, as the U-Net does."""
    for axis in (-2, -1):
        last, index = image.shape[axis] - 1, torch.arange(skip.shape[axis])
        index = torch.where(index > last, 2 * last - index, index)
        image = image.index_select(axis, index.to(image.device))
    return image


def _padding(size: int) -> tuple[int, int]:
    missing = -size % _MULTIPLE
    return missing // 2, missing - missing // 2
