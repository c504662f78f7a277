"""The U-Net of fastMRI with its normalization as a switch.

Module order and names are those of fastMRI's, so that its weights load.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrirecon.errors import InputError, unknown_name
from mrirecon.models.groups import default_channels_per_group, level_widths
from mrirecon.models.norms import InstanceNorm, InstanceNormLeakyReLU, Norm, fast_layout, make_norm
from mrirecon.tables.norms import norm_options

NORM_POSITIONS = ("before", "between", "after")
SLOPE = 0.2  # of LeakyReLU for negative values
MakeNorm = Callable[[int], nn.Module]


class ConvBlock(nn.Module):
    """Two times convolution 3 x 3, norm, LeakyReLU, dropout of channels (Tompson et al. 2015): fastMRI's `ConvBlock`.

    Maps (batch, in_channels, height, width) to (batch, out_channels, height, width).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        make_norm: Norm layer for a number of channels.
        norm_position: One of `NORM_POSITIONS`, see `normalised`.
        dropout: Probability of zeroing a channel.
        fast: Use the fast memory layout; for norms that give the right gradient in any.
    """

    def __init__(
        self, in_channels: int, out_channels: int, make_norm: MakeNorm, norm_position: str, dropout: float, fast: bool
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.fast = fast
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            conv = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False)
            layers += [*normalised(conv, make_norm, norm_position), nn.Dropout2d(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Map (batch, in_channels, height, width); of several images the channels are taken side by side."""
        images = image if isinstance(image, tuple) else (image,)
        if self.fast:
            images = tuple(fast_layout(image, self.out_channels) for image in images)
        first, *others = self.layers
        output = convolve_side_by_side(first, images) if isinstance(first, nn.Conv2d) else first(torch.cat(images, 1))
        for layer in others:
            output = layer(output)
        return output


class TransposeConvBlock(nn.Module):
    """Transpose convolution 2 x 2 with stride 2, norm, LeakyReLU: fastMRI's `TransposeConvBlock`.

    Maps (batch, in_channels, height, width) to (batch, out_channels, 2 height, 2 width)."""

    def __init__(
        self, in_channels: int, out_channels: int, make_norm: MakeNorm, norm_position: str, fast: bool
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.fast = fast
        conv = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2, bias=False)
        self.layers = nn.Sequential(*normalised(conv, make_norm, norm_position))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(fast_layout(image, self.out_channels) if self.fast else image)


def normalised(conv: nn.Conv2d | nn.ConvTranspose2d, make_norm: MakeNorm, position: str) -> list[nn.Module]:
    """Put a norm before a convolution, between it and its LeakyReLU(0.2), or after both.

    fastMRI's U-Net has it between them.

    Raises:
        InputError: Unknown position.
    """
    activation = nn.LeakyReLU(negative_slope=SLOPE, inplace=True)
    if position == "before":
        return [make_norm(conv.in_channels), conv, activation]
    if position == "between":
        norm = make_norm(conv.out_channels)
        if type(norm) is InstanceNorm and not norm.affine:
            return [conv, InstanceNormLeakyReLU(norm.num_features, norm.eps, SLOPE), nn.Identity()]
        return [conv, norm, activation]
    if position == "after":
        return [conv, activation, make_norm(conv.out_channels)]
    raise unknown_name("norm position", position, NORM_POSITIONS)


def convolve_side_by_side(conv: nn.Conv2d, images: tuple[Tensor, ...]) -> Tensor:
    """Convolve images (batch, channels, height, width), joined along their channels, with `conv`, which has no bias.

    Equals `conv(torch.cat(images, dim=1))` but for rounding. On a CPU it is the sum of one convolution for each image:
    joining, and taking their gradient apart again, moves more memory than adding.
    """
    if len(images) == 1 or not images[0].is_cpu:
        return conv(torch.cat(images, dim=1) if len(images) > 1 else images[0])
    weights = conv.weight.split([image.shape[1] for image in images], dim=1)
    output, *others = (F.conv2d(image, w, padding=conv.padding) for image, w in zip(images, weights, strict=True))
    for other in others:
        output += other
    return output


class UNet(nn.Module):
    """U-Net (Ronneberger et al., MICCAI 2015) as in fastMRI (Zbontar et al., arXiv:1811.08839).

    `UNet()` loads the state dict of `fastmri.models.Unet(1, 1)` and gives the same output (tested to 1e-5).

    Args:
        in_channels: Channels of the input image.
        out_channels: Channels of the output image.
        channels: Channels of the first level; each level down doubles them.
        pools: Number of 2 x 2 average poolings.
        norm: See `make_norm`; used in every block, transpose convolutions too.
        affine: Learn a scale and a shift in each norm layer.
        channels_per_group: Group norm: channels in each group; default 32 from 64 `channels` upward, else half.
        n_groups: Group norm: number of groups, in place of `channels_per_group`.
        norm_position: `before` the convolution, `between` convolution and activation, `after` the activation.
        residual: The network predicts the correction to its input.
        dropout: Probability of zeroing a channel.

    Raises:
        InputError: Unknown names, or values that do not go together.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: int = 32,
        pools: int = 4,
        norm: Norm = "instance",
        affine: bool = False,
        channels_per_group: int | None = None,
        n_groups: int | None = None,
        norm_position: str = "between",
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "channels": channels, "pools": pools}
        for name, value in sizes.items():
            if value < 1:
                raise InputError(f"{name} is {value}; it must be 1 or more")
        if residual and in_channels != out_channels:
            raise InputError(
                f"residual learning needs as many channels out as in, got {in_channels} and {out_channels}"
            )
        if not 0.0 <= dropout < 1.0:
            raise InputError(f"dropout is {dropout}; it must be at least 0 and below 1")
        if "channels_per_group" in norm_options(norm) and channels_per_group is None and n_groups is None:
            channels_per_group = default_channels_per_group(channels)
        norm_of = partial(make_norm, norm, affine=affine, channels_per_group=channels_per_group, n_groups=n_groups)
        # torch's own instance norm gives wrong gradients in mixed layouts, and a callable may hold one.
        options: dict[str, Any] = {"make_norm": norm_of, "norm_position": norm_position, "fast": isinstance(norm, str)}
        conv: Callable[[int, int], nn.Module] = partial(ConvBlock, dropout=dropout, **options)
        up: Callable[[int, int], nn.Module] = partial(TransposeConvBlock, **options)
        self.in_channels, self.out_channels, self.pools = in_channels, out_channels, pools
        self.residual = residual
        widths = level_widths(channels, pools)
        self.down_sample_layers = nn.ModuleList(map(conv, [in_channels, *widths], widths[:-1]))
        self.conv = conv(widths[-2], widths[-1])
        self.up_conv = nn.ModuleList()
        self.up_transpose_conv = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up_transpose_conv.append(up(2 * width, width))
            self.up_conv.append(conv(2 * width, width))
        self.up_conv[-1] = nn.Sequential(self.up_conv[-1], nn.Conv2d(channels, out_channels, kernel_size=1))

    def check_image_size(self, shape: Sequence[int]) -> None:
        """Raise InputError for images (height, width) that are too small."""
        check_image_size(shape, self.pools)

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, height, width), of any size.

        With the default options it equals `forward` of fastMRI's `Unet` (tested).

        Raises:
            InputError: The image is smaller than `2 * 2**pools` pixels in height or width.
        """
        if not torch.compiler.is_exporting():  # a question that would fix the size
            check_image_size(image.shape[-2:], self.pools)
        output = image
        skips: list[Tensor] = []
        for down in self.down_sample_layers:
            skips.append(down(output))
            output = F.avg_pool2d(skips[-1], kernel_size=2)
        output = self.conv(output)
        for transpose_conv, conv in zip(self.up_transpose_conv, self.up_conv, strict=True):
            skip = skips.pop()
            output = conv((_match(transpose_conv(output), skip), skip))
        return output + image if self.residual else output


class HasPools(Protocol):
    """A U-Net, or the keys of one."""

    @property
    def pools(self) -> int:
        """Number of poolings."""


def smallest_size(network: HasPools) -> int:
    """Return the smallest height and width in pixels that a `UNet` takes."""
    return 2 * 2**network.pools


def check_image_size(shape: Sequence[int], pools: int) -> None:
    """Raise InputError if an image (height, width) is smaller than 2 x 2**pools pixels on a side.

    Below that, the lowest level would be one pixel high or wide: nothing to normalise, nothing to reflect.
    """
    limit = 2 * 2**pools
    smallest = min(shape)
    if smallest >= limit:
        return
    fitting = max(int(smallest), 1).bit_length() - 2
    advice = f"use {fitting} pools or larger images" if fitting > 0 else "no U-Net fits images below 4 pixels"
    size = " x ".join(str(int(n)) for n in shape)
    raise InputError(f"images of {size} pixels are too small: {pools} pools need {limit} x {limit}; {advice}")


def _match(image: Tensor, skip: Tensor) -> Tensor:
    """Bring `image` (batch, channels, height, width) to the size of `skip`: what pooling lost is reflected.

    As fastMRI does. An exported graph picks rows and columns by number, for whether one is missing depends on the size.
    """
    if torch.compiler.is_exporting():
        for axis in (-2, -1):
            last, index = image.shape[axis] - 1, torch.arange(skip.shape[axis], device=image.device)
            image = image.index_select(axis, torch.where(index > last, 2 * last - index, index))
        return image
    height, width = skip.shape[-2] - image.shape[-2], skip.shape[-1] - image.shape[-1]
    return F.pad(image, (0, width, 0, height), "reflect") if height or width else image
