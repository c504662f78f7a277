"""A network that sees k-space, as a user would add one: this file, and the entry at its end."""

import torch
from torch import nn

from mrirecon.physics import Sense, center_fit
from mrirecon.tables.models import Model, Seen
from mrirecon.training.prediction import of_image


class Unrolled(nn.Module):
    """One gradient step of SENSE with a learned length, then a convolution of real and imaginary part."""

    def __init__(self, channels):
        super().__init__()
        self.step = nn.Parameter(torch.ones(()))
        self.refine = nn.Sequential(
            nn.Conv2d(2, channels, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(channels, 2, 3, padding=1)
        )

    def forward(self, masked_kspace, mask, smaps):
        image = self.step * Sense.of_batch(smaps, mask).adjoint(masked_kspace)
        scale = image.abs().amax((-2, -1), keepdim=True).clamp(min=1e-30)
        parts = torch.view_as_real(image / scale).movedim(-1, 1)
        return scale * torch.view_as_complex((parts + self.refine(parts)).movedim(1, -1).contiguous())


def predict(network, sample):
    """What it makes of a sample: the magnitude, cut to the image."""
    image = network(sample.masked_kspace, sample.mask, sample.smaps).abs()
    return of_image(center_fit(image, tuple(sample.image.shape[-2:])), sample)


UNROLLED = Model(
    "one unrolled step",
    Unrolled,
    keys=("channels",),
    inputs={"kspace": Seen(("kspace", "mask", "smaps"), predict)},
    smallest=8,
)
