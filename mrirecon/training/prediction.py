"""Predictions: how a sample goes into a network, and how its output becomes an image in the units of the target.

Each function maps (network, collated sample) to a `Prediction`; an entry of `MODELS` names the one of a network.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mrirecon.data.samples import Sample
from mrirecon.data.transforms import CLAMP, measured_mask, normalize, unnormalize
from mrirecon.models.normunet import standardise
from mrirecon.physics import center_fit
from mrirecon.tables.entry import builder
from mrirecon.tables.models import MODELS


class Prediction(NamedTuple):
    """A reconstruction `(batch, height, width)` in single precision."""

    image: Tensor  # in the units of the target
    normalized: Tensor  # minus the input's mean, over its standard deviation; not clamped


Predict = Callable[[nn.Module, Sample], Prediction]


class TrainedNetwork(nn.Module):
    """A network as it reconstructs, without what trained it: the `model` of a `ReconModule`, under the same names.

    Args:
        model: The network.
        predict: What it makes of a sample; None: what `predict_by_class` finds.
    """

    def __init__(self, model: nn.Module, predict: Predict | None = None) -> None:
        super().__init__()
        self.model, self.predict = model, predict or predict_by_class(model)
        self.trained_steps: int | None = None  # behind the weights, where a checkpoint says it

    def forward(self, sample: Sample) -> Tensor:
        """Reconstructions `(batch, height, width)` in the units of the target."""
        return self.predict(self.model, sample).image


def predict_by_class(model: nn.Module) -> Predict:
    """Return the function for a network without a configuration.

    It is that of the entry of `MODELS` which builds networks of its class, by its `in_channels`; else `of_magnitude`.
    """
    for entry in MODELS.values():
        if type(model) is builder(entry.build):
            fitting = [one for one in entry.inputs.values() if not one.channels or one.channels == model.in_channels]
            return builder((fitting or list(entry.inputs.values()))[0].predict)
    return of_magnitude


def of_magnitude(model: nn.Module, sample: Sample) -> Prediction:
    """Predict from the magnitude `(batch, height, width)`, standardised by its mean and deviation and clamped to +-6.

    As fastMRI trains its U-Net (Zbontar et al., arXiv:1811.08839).
    """
    normalized = model(normalize(sample.image, sample.mean, sample.std).unsqueeze(1)).squeeze(1).float()
    return Prediction(unnormalize(normalized, sample.mean, sample.std), normalized)


def of_raw_magnitude(model: nn.Module, sample: Sample) -> Prediction:
    """Predict from the magnitude `(batch, height, width)` as it is."""
    return of_image(model(sample.image.unsqueeze(1)).squeeze(1).float(), sample)


def of_raw_complex(model: nn.Module, sample: Sample) -> Prediction:
    """Predict from the coil-combined complex image `(batch, height, width)` as it is; the output's magnitude counts."""
    return of_image(model(sample.combined.unsqueeze(1)).squeeze(1).abs(), sample)


def of_complex(model: nn.Module, sample: Sample) -> Prediction:
    """Predict from the coil-combined complex image `(batch, height, width)`, as real and imaginary channels.

    They are in units of the magnitude's standard deviation; not shifted by its mean, which would change the phase.
    Where the magnitude is over mean + 6 deviations it is limited to that, and the phase is kept.
    """
    mean, std = _per_image(sample.mean), _per_image(sample.std)
    nothing = torch.zeros_like(mean)
    image = standardise(sample.combined, nothing, std)
    brightness, shift = image.abs(), standardise(mean, nothing, std)
    limit = shift + CLAMP
    image = torch.where(brightness > limit, image * (limit / brightness.clamp(min=1.0)), image)
    output = model(torch.view_as_real(image).movedim(-1, 1)).float()
    magnitude = torch.view_as_complex(output.movedim(1, -1).contiguous()).abs()
    return Prediction(torch.where(std > 0, magnitude * std, mean), magnitude - shift)


def of_image(image: Tensor, sample: Sample) -> Prediction:
    """Make the prediction of a network that gives images `(batch, height, width)` in the units of the target."""
    return Prediction(image, standardise(image, _per_image(sample.mean), _per_image(sample.std)))


def _per_image(value: Tensor) -> Tensor:
    return value[..., None, None]


# ---- networks that see k-space
#
# It goes in with the standard deviation of the zero-filled image about 1, exactly by a power of two, and images come
# back in its unit; so whatever unit a scanner has, the result is the same.


def of_varnet(model: nn.Module, sample: Sample) -> Prediction:
    """Predict from masked k-space (Sriram et al., MICCAI 2020): magnitudes `(batch, height, width)` cut to the image.

    The maps are made of the central columns that the sample counts (`n_center`).
    """
    return _of_kspace(model, sample, torch.as_tensor(sample.n_center, device=sample.mask.device))


def of_unet_dc(model: nn.Module, sample: Sample) -> Prediction:
    """Predict from masked k-space and the sample's coil sensitivity maps, magnitudes `(batch, height, width)`."""
    return _of_kspace(model, sample, sample.smaps)


def _of_kspace(model: nn.Module, sample: Sample, coils: Tensor) -> Prediction:
    # a power of two next to each number, 1 where it is 0
    _, exponent = torch.frexp(sample.std)
    unit = torch.ldexp(torch.ones_like(sample.std), exponent)
    kspace = sample.masked_kspace / unit[:, None, None, None]
    image = model(kspace, measured_mask(kspace, sample.mask), coils)
    height, width = sample.image.shape[-2:]
    return of_image(center_fit(image, (height, width)) * unit[:, None, None], sample)
