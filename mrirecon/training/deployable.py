"""A trained network for use without the rest of this package: images in, images out, standardisation inside.

Each class here is `predict` for one kind of network, in real numbers, statistics included.
"""

import torch
from torch import Tensor, nn

from mrirecon.data.transforms import CLAMP
from mrirecon.models.normunet import NormUNet, standardise
from mrirecon.models.traceable import magnitude, plain_norms, run_normunet, run_unet, smallest_size, statistics
from mrirecon.models.unet import UNet
from mrirecon.training.prediction import sees_complex

INPUTS = {
    "image": "(batch, height, width), RSS magnitude of the zero-filled image",
    "combined": "(batch, 2, height, width), real and imaginary part of the zero-filled, coil-combined image",
}


class Deployable(nn.Module):
    """Maps images to reconstructions `(batch, height, width)`, all of them float32, in one unit, whichever.

    Args:
        model: A `UNet` or a `NormUNet`, of which a copy is kept.
    """

    inputs: tuple[str, ...] = ("image",)  # of `forward`, in order; see INPUTS
    model: UNet | NormUNet

    def __init__(self, model: UNet | NormUNet) -> None:
        super().__init__()
        self.model = plain_norms(model)
        self.smallest_size = smallest_size(model)  # pixels, of height and width
        self.eval()


class MagnitudeUNet(Deployable):
    """A U-Net that sees the standardised magnitude."""

    model: UNet

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct magnitudes `(batch, height, width)`."""
        mean, std = statistics(image)
        normalized = standardise(image, mean, std).clamp(-CLAMP, CLAMP)
        return run_unet(self.model, normalized.unsqueeze(1)).squeeze(1) * std + mean


class ComplexUNet(Deployable):
    """A U-Net that sees the complex image in units of the deviation of the magnitude, brightness limited."""

    model: UNet
    inputs = ("combined", "image")

    def forward(self, combined: Tensor, image: Tensor) -> Tensor:
        """Reconstruct real and imaginary parts; only the statistics are of the magnitudes `image`."""
        mean, std = statistics(image)
        nothing, is_constant = torch.zeros_like(mean), std == 0
        scaled = standardise(combined, nothing.unsqueeze(1), std.unsqueeze(1))
        brightness, limit = magnitude(scaled), standardise(mean, nothing, std) + CLAMP
        shrink = torch.where(brightness > limit, limit / brightness.clamp(min=1.0), torch.ones_like(brightness))
        output = magnitude(run_unet(self.model, scaled * shrink.unsqueeze(1))) * std
        return torch.where(is_constant, mean, output)


class MagnitudeNormUNet(Deployable):
    """A NormUNet that sees the magnitude."""

    model: NormUNet

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct magnitudes `(batch, height, width)`."""
        return run_normunet(self.model, image.unsqueeze(1)).squeeze(1)


class ComplexNormUNet(Deployable):
    """A NormUNet that sees the complex image."""

    model: NormUNet
    inputs = ("combined",)

    def forward(self, combined: Tensor) -> Tensor:
        """Reconstruct real and imaginary parts `(batch, 2, height, width)`."""
        return magnitude(run_normunet(self.model, combined))


def deployable(model: UNet | NormUNet) -> Deployable:
    """`model` with all that `predict` does around it."""
    if isinstance(model, NormUNet):
        return ComplexNormUNet(model) if sees_complex(model) else MagnitudeNormUNet(model)
    return ComplexUNet(model) if sees_complex(model) else MagnitudeUNet(model)
