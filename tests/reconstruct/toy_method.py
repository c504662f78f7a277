"""A method as a user would add one: this file, and the entry at its end."""

from dataclasses import dataclass

import torch

from mrirecon.physics import Sense, center_fit
from mrirecon.tables.methods import Method


@dataclass(frozen=True)
class LandweberOptions:
    """What `landweber` can be set to."""

    iterations: int = 2
    """Gradient steps from an image of zeros."""


class Landweber:
    """Gradient descent on ||A x - y||^2 / 2 with steps of 1, which no map of unit energy makes too long."""

    def __init__(self, iterations):
        self.iterations = iterations

    def __call__(self, sample):
        sense = Sense.of_batch(sample.smaps, sample.mask)
        start = sense.adjoint(sample.masked_kspace)
        image = torch.zeros_like(start)
        for _ in range(self.iterations):
            image = image + start - sense.normal(image)
        return center_fit(image.abs(), tuple(int(size[0]) for size in sample.crop_shape))


LANDWEBER = Method(
    "gradient steps for SENSE", Landweber, LandweberOptions, needs=("kspace", "mask", "smaps"), smallest=8
)
