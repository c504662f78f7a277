"""How a network sees a sample, and what its output means: real or complex, standardised by the data or by itself."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mrirecon.data.transforms import CLAMP, ImageSample, normalize, unnormalize
from mrirecon.models.normunet import standardise


class Prediction(NamedTuple):
    """A reconstruction `(batch, height, width)` in single precision."""

    image: Tensor  # in the units of the target
    normalized: Tensor  # minus the input's mean, over its standard deviation; not clamped


class TrainedNetwork(nn.Module):
    """A network as it reconstructs, without what trained it: the `model` of a `ReconModule`, under the same names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.trained_steps: int | None = None  # behind the weights, where a checkpoint says it

    def forward(self, sample: ImageSample) -> Tensor:
        """Reconstructions `(batch, height, width)` in the units of the target."""
        return predict(self.model, sample).image


def predict(model: nn.Module, sample: ImageSample) -> Prediction:
    """Apply a network to a batch.

    A network with the attribute `standardises` gets images as they are; any other one gets them standardised by the
    sample's mean and standard deviation and clamped to 6 of the latter. One with two `in_channels` gets the
    coil-combined complex image, the magnitude of its output is the reconstruction; any other one the RSS magnitude.
    """
    if getattr(model, "standardises", False):
        return _raw(model, sample)
    if sees_complex(model):
        return _complex(model, sample)
    normalized = model(normalize(sample.image, sample.mean, sample.std).unsqueeze(1)).squeeze(1).float()
    return Prediction(unnormalize(normalized, sample.mean, sample.std), normalized)


def sees_complex(model: nn.Module) -> bool:
    """Whether the network's input is the coil-combined complex image."""
    return getattr(model, "in_channels", 1) == 2


def _raw(model: nn.Module, sample: ImageSample) -> Prediction:
    if sees_complex(model):
        image = model(sample.combined.unsqueeze(1)).squeeze(1).abs()
    else:
        image = model(sample.image.unsqueeze(1)).squeeze(1).float()
    return Prediction(image, standardise(image, _per_image(sample.mean), _per_image(sample.std)))


def _complex(model: nn.Module, sample: ImageSample) -> Prediction:
    """Scaled, not shifted: a mean is nothing that a phase could keep; too bright pixels keep their phase."""
    mean, std = _per_image(sample.mean), _per_image(sample.std)
    nothing = torch.zeros_like(mean)
    image = standardise(sample.combined, nothing, std)
    brightness, shift = image.abs(), standardise(mean, nothing, std)
    limit = shift + CLAMP
    image = torch.where(brightness > limit, image * (limit / brightness.clamp(min=1.0)), image)
    output = model(torch.view_as_real(image).movedim(-1, 1)).float()
    magnitude = torch.view_as_complex(output.movedim(1, -1).contiguous()).abs()
    return Prediction(torch.where(std > 0, magnitude * std, mean), magnitude - shift)


def _per_image(value: Tensor) -> Tensor:
    return value[..., None, None]
