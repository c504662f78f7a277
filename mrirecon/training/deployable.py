"""Networks for export: images in, images out, with the standardisation inside.

Each class equals a function of `prediction` for one kind of network. Those for networks that see images compute in real
numbers, for exported graphs hold no complex ones, and take the statistics of the image themselves.
"""

import copy

import torch
from torch import Tensor, nn

from mrirecon.config import ModelConfig
from mrirecon.data.samples import Sample
from mrirecon.data.transforms import CLAMP
from mrirecon.errors import InputError
from mrirecon.models.normunet import NormUNet, standardise, statistics
from mrirecon.models.unet import UNet
from mrirecon.tables.entry import builder
from mrirecon.training.build import read_design
from mrirecon.training.prediction import of_unet_dc, of_varnet

INPUTS = {
    "image": "(batch, height, width), RSS magnitude of the zero-filled image",
    "combined": "(batch, 2, height, width), real and imaginary part of the zero-filled, coil-combined image",
    "kspace": "(batch, coils, rows, columns), 0 where not sampled",
    "mask": "(batch, columns), the sampled columns",
    "n_center": "(batch,), number of fully sampled central columns",
    "smaps": "(batch, coils, rows, columns), coil sensitivity maps",
}


class Deployable(nn.Module):
    """Maps images to reconstructions `(batch, height, width)`, all of them float32, in one unit, whichever.

    Args:
        model: A network, of which a copy is kept.
        smallest_size: Height and width in pixels from which on it takes images.
    """

    inputs: tuple[str, ...] = ("image",)  # of `forward`, in order; see INPUTS
    has_graph = True  # off: it computes in complex numbers, which the graphs of exporters do not hold
    model: nn.Module

    def __init__(self, model: nn.Module, smallest_size: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.smallest_size = smallest_size
        self.eval()


def sample_of_image(image: Tensor) -> Sample:
    """Make a collated sample of zero-filled magnitudes `(batch, height, width)` alone, with their statistics."""
    mean, std = (value[:, 0, 0] for value in statistics(image, n_axes=2))
    nothing, n = image.new_empty(len(image), 0), len(image)
    return Sample(image, nothing, mean, std, 0.0, [""] * n, [0] * n, 1.0, 1.0, [""] * n)  # type: ignore[arg-type]


class MagnitudeUNet(Deployable):
    """A U-Net that sees the standardised magnitude."""

    model: UNet

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct magnitudes `(batch, height, width)`."""
        mean, std = statistics(image, n_axes=2)
        normalized = standardise(image, mean, std).clamp(-CLAMP, CLAMP)
        return self.model(normalized.unsqueeze(1)).squeeze(1) * std + mean


class ComplexUNet(Deployable):
    """A U-Net that sees the complex image in units of the deviation of the magnitude, brightness limited."""

    model: UNet
    inputs = ("combined", "image")

    def forward(self, combined: Tensor, image: Tensor) -> Tensor:
        """Reconstruct `combined` `(batch, 2, height, width)`; `image` `(batch, height, width)` gives the statistics."""
        mean, std = statistics(image, n_axes=2)
        nothing, is_constant = torch.zeros_like(mean), std == 0
        scaled = standardise(combined, nothing.unsqueeze(1), std.unsqueeze(1))
        brightness, limit = magnitude(scaled), standardise(mean, nothing, std) + CLAMP
        shrink = torch.where(brightness > limit, limit / brightness.clamp(min=1.0), torch.ones_like(brightness))
        output = magnitude(self.model(scaled * shrink.unsqueeze(1))) * std
        return torch.where(is_constant, mean, output)


class MagnitudeNormUNet(Deployable):
    """A NormUNet that sees the magnitude."""

    model: NormUNet

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct magnitudes `(batch, height, width)`."""
        return self.model.of_parts(image.unsqueeze(1), n_parts=1).squeeze(1)


class ComplexNormUNet(Deployable):
    """A NormUNet that sees the complex image."""

    model: NormUNet
    inputs = ("combined",)

    def forward(self, combined: Tensor) -> Tensor:
        """Reconstruct real and imaginary parts `(batch, 2, height, width)`."""
        return magnitude(self.model.of_parts(combined, n_parts=2))


class DeployableVarNet(Deployable):
    """A VarNet that sees masked k-space."""

    inputs = ("kspace", "mask", "n_center", "image")
    has_graph = False

    def forward(self, kspace: Tensor, mask: Tensor, n_center: Tensor, image: Tensor) -> Tensor:
        """Reconstruct magnitudes `(batch, height, width)`; `image` gives their size and the unit."""
        sample = sample_of_image(image)._replace(masked_kspace=kspace, mask=mask, n_center=n_center)  # type: ignore[arg-type]
        return of_varnet(self.model, sample).image


class DeployableUNetDC(Deployable):
    """A U-Net with data consistency that sees masked k-space and coil sensitivity maps."""

    inputs = ("kspace", "mask", "smaps", "image")
    has_graph = False

    def forward(self, kspace: Tensor, mask: Tensor, smaps: Tensor, image: Tensor) -> Tensor:
        """Reconstruct magnitudes `(batch, height, width)`; `image` gives their size and the unit."""
        sample = sample_of_image(image)._replace(masked_kspace=kspace, mask=mask, smaps=smaps)
        return of_unet_dc(self.model, sample).image


def magnitude(parts: Tensor) -> Tensor:
    """Compute the magnitude `(batch, height, width)` of real and imaginary part `(batch, 2, height, width)`.

    In double precision, where the square of no single-precision number over- or underflows: but for rounding it equals
    numpy's `hypot`.
    """
    return parts.double().square().sum(1).sqrt().to(parts.dtype)


def deployable(model: nn.Module, config: ModelConfig) -> Deployable:
    """Wrap a copy of `model`, the network of `config`, with all that its prediction does around it.

    Raises:
        InputError: It sees more than images, or is not known in a form that can be exported.
    """
    design = read_design(config)
    build = design.seen.deployable
    if not build:
        raise InputError(
            f"a network {config.name} cannot be exported: no form of it is known that works without this package; "
            "use its run"
        )
    made: Deployable = builder(build)(model, design.smallest())
    return made
