"""The two blocks of the U-Net; module order and names are those of fastMRI's, so that its weights load."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrirecon.errors import unknown_name
from mrirecon.models.layout import fast_layout
from mrirecon.models.norms import InstanceNorm, InstanceNormLeakyReLU

NORM_POSITIONS = ("before", "between", "after")
SLOPE = 0.2  # of LeakyReLU for negative values
MakeNorm = Callable[[int], nn.Module]


class ConvBlock(nn.Module):
    """Two times convolution 3 x 3, norm, LeakyReLU, dropout of channels: (batch, channels, height, width).

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
        """Several images of one size count as one, their channels side by side."""
        images = image if isinstance(image, tuple) else (image,)
        if self.fast:
            images = tuple(fast_layout(image, self.out_channels) for image in images)
        first, *others = self.layers
        output = convolve_side_by_side(first, images) if isinstance(first, nn.Conv2d) else first(torch.cat(images, 1))
        for layer in others:
            output = layer(output)
        return output


class TransposeConvBlock(nn.Module):
    """Transpose convolution 2 x 2 with stride 2, norm, LeakyReLU; doubles height and width."""

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
    """A convolution with its LeakyReLU(0.2) and a norm: before the convolution, between them, or after both.

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
    """`conv` (no bias) of images joined along their channels.

    On a CPU it is the sum of one convolution for each image: joining, and taking their gradient apart again, moves
    more memory than adding.
    """
    if len(images) == 1 or not images[0].is_cpu:
        return conv(torch.cat(images, dim=1) if len(images) > 1 else images[0])
    weights = conv.weight.split([image.shape[1] for image in images], dim=1)
    output, *others = (F.conv2d(image, w, padding=conv.padding) for image, w in zip(images, weights, strict=True))
    for other in others:
        output += other
    return output
