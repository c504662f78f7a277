"""Predictions of networks that see k-space, and the networks of files of weights for them.

K-space goes in with the standard deviation of the zero-filled image about 1, exactly by a power of two, and images come
back in its unit; so whatever unit a scanner has, the result is the same.
"""

import torch
from torch import Tensor, nn

from mrirecon.data.samples import Sample
from mrirecon.data.transforms import measured_mask
from mrirecon.physics import center_fit
from mrirecon.training.deployable import Deployable, sample_of_image
from mrirecon.training.prediction import Prediction, of_image


def of_varnet(model: nn.Module, sample: Sample) -> Prediction:
    """Predict from masked k-space (Sriram et al., MICCAI 2020): magnitudes `(batch, height, width)` cut to the image.

    The maps are made of the central columns that the sample counts (`n_center`).
    """
    return _of_kspace(model, sample, torch.as_tensor(sample.n_center, device=sample.mask.device))


def of_unet_dc(model: nn.Module, sample: Sample) -> Prediction:
    """Predict from masked k-space and the sample's coil sensitivity maps, magnitudes `(batch, height, width)`."""
    return _of_kspace(model, sample, sample.smaps)


def _of_kspace(model: nn.Module, sample: Sample, coils: Tensor) -> Prediction:
    unit = _unit(sample.std)
    kspace = sample.masked_kspace / unit[:, None, None, None]
    image = model(kspace, measured_mask(kspace, sample.mask), coils)
    height, width = sample.image.shape[-2:]
    return of_image(center_fit(image, (height, width)) * unit[:, None, None], sample)


def _unit(std: Tensor) -> Tensor:
    """Return a power of two next to each number, 1 where it is 0."""
    _, exponent = torch.frexp(std)
    return torch.ldexp(torch.ones_like(std), exponent)


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
