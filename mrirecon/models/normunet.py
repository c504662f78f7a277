"""A U-Net that standardises its own input: fastMRI's NormUnet with the normalization layers as a switch."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrirecon.errors import InputError
from mrirecon.models.unet import HasPools, UNet, check_image_size
from mrirecon.models.unet import smallest_size as unpadded

_MULTIPLE = 16  # images are padded to a multiple of this on both sides, whatever the number of poolings


class NormUNet(nn.Module):
    """Standardise each sample, pad, run a `UNet`, undo both (Sriram et al., "E2E VarNet", MICCAI 2020).

    `NormUNet(channels, pools)` loads the state dict of `fastmri.models.varnet.NormUnet(channels, pools)` and gives the
    same output for native complex images (tested); but a constant image is finite here, and any scale is.

    Args:
        in_channels: Real channels of the input: 2 for each complex one. Odd numbers are real images.
        out_channels: The same of the output.
        channels, pools, options: Of the `UNet`.

    Raises:
        InputError: From `UNet`.
    """

    def __init__(
        self, channels: int = 32, pools: int = 4, in_channels: int = 2, out_channels: int = 2, **options: Any
    ) -> None:
        super().__init__()
        self.unet = UNet(in_channels, out_channels, channels, pools, **options)
        self.in_channels, self.out_channels, self.pools = in_channels, out_channels, pools

    def check_image_size(self, shape: Sequence[int]) -> None:
        """Raise InputError for images (height, width) that are too small even when padded."""
        if min(size + sum(_padding(size)) for size in shape) < 2 * 2**self.pools:
            check_image_size(shape, self.pools)

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, n, height, width), complex or real, to the same kind with the output's channels.

        Real parts are standardised together and imaginary parts together, each over all channels and pixels of a
        sample; a real image as a whole. Equals `forward` of fastMRI's `NormUnet` on complex images (tested).

        Raises:
            InputError: Complex images for a network of an odd number of channels, or too many.
        """
        if not image.is_complex():
            return self.of_parts(image, n_parts=1)
        if 2 * image.shape[1] != self.in_channels or self.out_channels % 2:
            raise InputError(
                f"{image.shape[1]} complex channels for a NormUNet of {self.in_channels} real channels in and "
                f"{self.out_channels} out; it needs two real ones for each complex one"
            )
        output = self.of_parts(torch.cat([image.real, image.imag], dim=1), n_parts=2)
        return torch.complex(*output.chunk(2, dim=1))

    def of_parts(self, image: Tensor, n_parts: int) -> Tensor:
        """Map real (batch, n, height, width), whose channels are `n_parts` parts one after the other, to the same.

        Each part is standardised by itself: the real and the imaginary part of complex images are 2. As in fastMRI's
        `NormUnet`, images are padded to multiples of 16, and padding and standardisation are undone.
        """
        parts = image.unflatten(1, (n_parts, -1))
        mean, std = statistics(parts, n_axes=3)
        normalised = standardise(parts, mean, std).flatten(1, 2)
        height, width = image.shape[-2:]
        top, bottom = _padding(height)
        left, right = _padding(width)
        output = self.unet(F.pad(normalised, (left, right, top, bottom))).float()
        if torch.compiler.is_exporting():  # slices ask whether they reach over the end
            rows, columns = (torch.arange(n, device=output.device) for n in (height, width))
            output = output.index_select(-2, rows + top).index_select(-1, columns + left)
        else:
            output = output[..., top : top + height, left : left + width]
        return (output.unflatten(1, (n_parts, -1)) * std + mean).flatten(1, 2)


def smallest_size(network: HasPools) -> int:
    """Return the smallest height and width in pixels that a `NormUNet` takes: fastMRI's `NormUnet` pads images, too."""
    return max(2, unpadded(network) - _MULTIPLE + 1)


def standardise(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Compute `(values - mean) / std` of any one shape, (..., height, width), and 0 where `std` is 0.

    A constant image has no scale to measure differences in.

    Undone by `* std + mean`, which gives a constant image back whatever the network made of the zeros, as fastMRI's
    chain does for an empty slice.
    """
    return (values - mean) / torch.where(std > 0, std, torch.inf)


def statistics(values: Tensor, n_axes: int) -> tuple[Tensor, Tensor]:
    """Compute mean and unbiased standard deviation over the last axes, (..., 1, 1) for (..., height, width).

    `n_axes` are taken, each of which stays with a length of 1.

    With three axes they are, but for rounding, those that fastMRI's `NormUnet` takes of each part of an image.

    Computed in double precision, returned in that of `values`; the deviation of a constant is exactly 0.
    """
    flat = values.double().flatten(-n_axes)
    mean, std = flat.mean(-1), flat.std(-1)
    is_constant = flat.amax(-1) == flat.amin(-1)
    std = torch.where(is_constant, torch.zeros_like(std), std)  # not what rounding leaves
    axes = (...,) + (None,) * n_axes
    return mean.to(values.dtype)[axes], std.to(values.dtype)[axes]


def _padding(size: int) -> tuple[int, int]:
    """Return the pixels to pad before and after, as fastMRI divides them."""
    missing = -size % _MULTIPLE
    return missing // 2, missing - missing // 2
