"""From undersampled k-space to what reconstructions begin with: images, statistics, coil sensitivity maps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mrirecon.data.measured_positions import FULL
from mrirecon.data.samples import Sample
from mrirecon.models.normunet import standardise
from mrirecon.physics import center_fit, combine_coils, ifft2c, low_resolution_smaps, rss

_MAX_CENTER = 32  # columns; more make sensitivity maps no better, only noisier
CLAMP = 6.0  # fastMRI's U-Net sees values within 6 standard deviations


# One type under the names of its two main uses: what `SliceDataset` gives as it is, and what `to_image` makes of that.
KSpaceSample = ImageSample = Sample


def apply_mask(kspace: Tensor, columns: Tensor) -> Tensor:
    """K-space `(..., width)` with +0 wherever `columns` `(width,)` is false.

    Not a product: 0 times a sample keeps its sign, which once gave away test data (fastMRI's PR 14).
    """
    return torch.where(columns, kspace, torch.zeros((), dtype=kspace.dtype, device=kspace.device))


def measured_mask(masked_kspace: Tensor, columns: Tensor) -> Tensor:
    """Return what was measured, to be held against a reconstruction: columns `(batch, width)`, or positions.

    They are the columns of the mask that hold a sample (a mask goes on in zero padding, which nobody measured; fastMRI
    cuts it there, too). But where, in any slice, less than 95 % of what its rows and columns with samples have in
    common is not 0 in all coils, k-space was undersampled along both axes (see `mrirecon.data.measured_positions`),
    and they are the positions that are not 0, `(batch, height, width)`.

    Args:
        masked_kspace: Complex `(batch, coils, height, width)`, +0 where not sampled.
        columns: bool `(batch, width)`.
    """
    there = (masked_kspace != 0).any(1) & columns.unsqueeze(1)
    rows, measured = there.any(-1), there.any(-2)
    is_2d = there.sum((-2, -1)) < FULL * rows.sum(-1) * measured.sum(-1)
    if not bool(is_2d.any()):
        return measured
    return torch.where(is_2d[:, None, None], there, measured.unsqueeze(1))


def zero_filled(masked_kspace: Tensor, shape: tuple[int, int]) -> Tensor:
    """Magnitude image `shape` of k-space `(..., coils, height, width)`: inverse FFT, crop, RSS over coils.

    Equals the input of fastMRI's U-Net (`UnetDataTransform`) before it is normalised; narrow images are padded here.
    """
    return magnitude_image(ifft2c(masked_kspace), shape)


def magnitude_image(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Magnitude image `shape` of complex coil images `(..., coils, height, width)`: crop, RSS over coils."""
    images = center_fit(images, shape)
    return images.squeeze(-3).abs() if images.shape[-3] == 1 else rss(images)


def combined_image(masked_kspace: Tensor, n_center: int, shape: tuple[int, int]) -> Tensor:
    """Complex image `shape` of k-space `(coils, height, width)`, its magnitude about the RSS, its phase the object's.

    Coils are combined (Roemer et al. 1990) with sensitivity maps from the `n_center` fully sampled central columns.
    """
    images = ifft2c(masked_kspace)
    if len(images) > 1:
        images = combine_coils(images, estimated_smaps(masked_kspace, n_center)).unsqueeze(0)
    return center_fit(images, shape).squeeze(0)


def estimated_smaps(masked_kspace: Tensor, n_center: int) -> Tensor:
    """Coil sensitivity maps of k-space `(coils, height, width)` from its centre; a single coil's is 1 everywhere.

    Of several coils, see `low_resolution_smaps` (McKenzie et al. 2002).
    """
    if len(masked_kspace) == 1:
        return torch.ones_like(masked_kspace)
    return low_resolution_smaps(masked_kspace, min(n_center, _MAX_CENTER))


def image_statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and unbiased standard deviation of an image `(h, w)`, computed in double; of a constant one 0.

    The statistics of fastMRI's `normalize_instance`.
    """
    values = image.double()
    mean = values.mean()
    is_constant = bool(values.amax() == values.amin())
    std = torch.zeros_like(mean) if is_constant else values.std()
    return mean.to(image.dtype), std.to(image.dtype)


def reduced(sample: Sample, needs: Sequence[str]) -> Sample:
    """Compute what `needs` (names of `NEEDS`) asks for of a sample with k-space and mask; drop what it does not.

    Args:
        sample: Not collated.
        needs: What is kept or made.
    """
    kspace, shape = sample.masked_kspace, (sample.crop_shape[0], sample.crop_shape[1])
    made: dict[str, Any] = {}
    if "combined" in needs:
        made["combined"] = combined_image(kspace, sample.n_center, shape)
    if "image" in needs:
        image = zero_filled(kspace, shape)
        made["image"], (made["mean"], made["std"]) = image, image_statistics(image)
    if "smaps" in needs:
        made["smaps"] = estimated_smaps(kspace, sample.n_center)
    if "kspace" not in needs:
        made |= {"masked_kspace": torch.empty(0), "n_center": 0, "crop_shape": ()}
    if "noise" not in needs:
        made["noise_covariance"] = torch.empty(0)
    if "mask" not in needs:
        made["mask"] = torch.empty(0)
    return sample._replace(**made)


def to_image(sample: Sample) -> Sample:
    """The zero-filled image of an (uncollated) k-space sample, with the statistics that normalise it.

    Both are those of fastMRI's `UnetDataTransform`; the image is not normalised yet.
    """
    return reduced(sample, ("image",))


def to_complex_image(sample: Sample) -> Sample:
    """`to_image`, with the coil-combined complex image (Roemer et al. 1990) beside the magnitude."""
    return reduced(sample, ("image", "combined"))


def normalize(image: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    """`(image - mean) / std`, clamped to 6 standard deviations; 0 everywhere where `std` is 0.

    `image` is `(..., h, w)`; `mean` and `std` have its leading dimensions or none. The target is
    normalised with the statistics of the input. fastMRI adds 1e-11 to `std`; here nothing is added,
    as k-space scales are arbitrary.
    """
    return standardise(image, _per_image(mean, image), _per_image(std, image)).clamp(-CLAMP, CLAMP)


def scored_target(sample: Sample, clamped: bool) -> Tensor:
    """Return the target that reconstructions are scored against, `(..., h, w)`: as stored, or clamped.

    fastMRI's evaluation takes it as stored, AlgoPerf (Dahl et al. 2023) clamped.
    """
    return clamped_target(sample) if clamped else sample.target


def clamped_target(sample: Sample) -> Tensor:
    """Return the target `(..., h, w)` as a network trained on clamped values could give it at best, in its units.

    fastMRI's U-Net module validates against it, and AlgoPerf (Dahl et al. 2023) scores against it.
    """
    mean, limit = _per_image(sample.mean, sample.target), CLAMP * _per_image(sample.std, sample.target)
    return torch.clamp(sample.target, mean - limit, mean + limit)


def unnormalize(image: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    """Return `image * std + mean`, `(..., h, w)`: back to the units of the target, as fastMRI's U-Net module does."""
    return image * _per_image(std, image) + _per_image(mean, image)


def _per_image(value: Tensor | float, image: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=image.dtype, device=image.device)[..., None, None]
