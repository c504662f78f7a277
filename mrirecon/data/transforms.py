"""From undersampled k-space to the network's input, and the samples a loader collates."""

from typing import NamedTuple

import torch
from torch import Tensor

from mrirecon.models.normunet import standardise
from mrirecon.physics import center_fit, combine_coils, ifft2c, low_resolution_smaps, rss

_MAX_CENTER = 32  # columns; more make sensitivity maps no better, only noisier
CLAMP = 6.0  # fastMRI's U-Net sees values within 6 standard deviations


class KSpaceSample(NamedTuple):
    """One slice of undersampled k-space."""

    masked_kspace: Tensor  # complex64 (coils, height, width); exactly +0 where not sampled
    mask: Tensor  # bool (width,)
    target: Tensor  # float32 (h, w) as stored; empty where the file has none
    data_range: float  # maximum of the target over the whole volume; 0 without target
    crop_shape: tuple[int, int]  # (h, w) of the image
    volume: str
    slice_idx: int
    acceleration: float  # nominal
    acceleration_true: float  # over the measured columns
    mask_id: str
    n_center: int  # fully sampled central columns
    object_mask: Tensor = torch.empty(0)  # bool (h, w), where a metric asks and the file has one; else empty


class ImageSample(NamedTuple):
    """One zero-filled slice, in the units of the target; `normalize` makes the network's input of it."""

    image: Tensor  # float32 (h, w), neither normalised nor clamped
    target: Tensor  # float32 (h, w) as stored; empty where the file has none
    mean: Tensor  # of `image`
    std: Tensor  # of `image`, unbiased
    data_range: float
    volume: str
    slice_idx: int
    acceleration: float
    acceleration_true: float
    mask_id: str
    combined: Tensor = torch.empty(0)  # complex64 (h, w), coils combined, where the network asks for it; else empty
    object_mask: Tensor = torch.empty(0)  # bool (h, w), where a metric asks and the file has one; else empty


def apply_mask(kspace: Tensor, columns: Tensor) -> Tensor:
    """K-space `(..., width)` with +0 wherever `columns` `(width,)` is false.

    Not a product: 0 times a sample keeps its sign, which once gave away test data (fastMRI's PR 14).
    """
    return torch.where(columns, kspace, torch.zeros((), dtype=kspace.dtype, device=kspace.device))


def zero_filled(masked_kspace: Tensor, shape: tuple[int, int]) -> Tensor:
    """Magnitude image `shape` of k-space `(..., coils, height, width)`: inverse FFT, crop, RSS over coils."""
    images = center_fit(ifft2c(masked_kspace), shape)
    return images.squeeze(-3).abs() if images.shape[-3] == 1 else rss(images)


def combined_image(masked_kspace: Tensor, n_center: int, shape: tuple[int, int]) -> Tensor:
    """Complex image `shape` of k-space `(coils, height, width)`, its magnitude about the RSS, its phase the object's.

    Coils are combined with sensitivity maps from the `n_center` fully sampled central columns.
    """
    images = ifft2c(masked_kspace)
    if len(images) > 1:
        smaps = low_resolution_smaps(masked_kspace, min(n_center, _MAX_CENTER))
        images = combine_coils(images, smaps).unsqueeze(0)
    return center_fit(images, shape).squeeze(0)


def image_statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of one image, computed in double; of a constant one 0."""
    values = image.double()
    mean = values.mean()
    is_constant = bool(values.amax() == values.amin())
    std = torch.zeros_like(mean) if is_constant else values.std()
    return mean.to(image.dtype), std.to(image.dtype)


def to_image(sample: KSpaceSample) -> ImageSample:
    """The zero-filled image of an (uncollated) k-space sample, with the statistics that normalise it."""
    image = zero_filled(sample.masked_kspace, sample.crop_shape)
    mean, std = image_statistics(image)
    return ImageSample(
        image,
        sample.target,
        mean,
        std,
        sample.data_range,
        sample.volume,
        sample.slice_idx,
        sample.acceleration,
        sample.acceleration_true,
        sample.mask_id,
        object_mask=sample.object_mask,
    )


def to_complex_image(sample: KSpaceSample) -> ImageSample:
    """`to_image`, with the coil-combined complex image beside the magnitude."""
    combined = combined_image(sample.masked_kspace, sample.n_center, sample.crop_shape)
    return to_image(sample)._replace(combined=combined)


TRANSFORMS = {"magnitude": to_image, "complex": to_complex_image}  # by what the network gets to see


def to_device(batch: ImageSample, device: torch.device) -> ImageSample:
    """The tensors of a batch on `device`."""
    return ImageSample._make(v.to(device) if isinstance(v, Tensor) else v for v in batch)


def normalize(image: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    """`(image - mean) / std`, clamped to 6 standard deviations; 0 everywhere where `std` is 0.

    `image` is `(..., h, w)`; `mean` and `std` have its leading dimensions or none. The target is
    normalised with the statistics of the input. fastMRI adds 1e-11 to `std`; here nothing is added,
    as k-space scales are arbitrary.
    """
    return standardise(image, _per_image(mean, image), _per_image(std, image)).clamp(-CLAMP, CLAMP)


def scored_target(sample: ImageSample, clamped: bool) -> Tensor:
    """What reconstructions are held against: the stored target, or the clamped one."""
    return clamped_target(sample) if clamped else sample.target


def clamped_target(sample: ImageSample) -> Tensor:
    """The target as a network that is trained on clamped values could give it at best, in its own units."""
    mean, limit = _per_image(sample.mean, sample.target), CLAMP * _per_image(sample.std, sample.target)
    return torch.clamp(sample.target, mean - limit, mean + limit)


def unnormalize(image: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    """`image * std + mean`: back to the units of the target."""
    return image * _per_image(std, image) + _per_image(mean, image)


def _per_image(value: Tensor | float, image: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=image.dtype, device=image.device)[..., None, None]
