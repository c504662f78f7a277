"""SSIM, PSNR and NMSE of one volume, computed in double precision.

Definitions as in fastMRI: the error sums run over the whole volume, SSIM is the mean over its slices, and
the data range (the target's maximum over the volume) is always given, never guessed. Values that have no
definition (a target of zeros) come out as NaN or infinity, so one bad volume does not end an evaluation.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrirecon.errors import InputError

WINDOW = 7  # pixels on a side, uniform weights
K1, K2 = 0.01, 0.03
_N = WINDOW * WINDOW
_SAMPLE_COVARIANCE = _N / (_N - 1)


class SliceScore(NamedTuple):
    """What one slice adds to the score of its volume."""

    ssim: float
    squared_error: float  # sum over pixels of (target - image)^2
    target_energy: float  # sum over pixels of target^2
    n_pixels: int


class VolumeScore(NamedTuple):
    """Score of one volume."""

    ssim: float
    psnr: float  # dB
    nmse: float
    n_slices: int


def ssim(target: Any, reconstruction: Any, data_range: float) -> float:
    """Structural similarity (Wang et al. 2004), mean over slices.

    7 x 7 uniform window, sample covariance, K1 = .01, K2 = .03, windows that lie inside the image: equals
    `fastmri.evaluate.ssim` and `skimage.metrics.structural_similarity`.

    Args:
        target: `(slices, height, width)` or `(height, width)`, tensor or array, real.
        reconstruction: The same shape.
        data_range: Maximum of the target over the whole volume; 0 gives NaN.

    Raises:
        InputError: Different shapes, complex values, images below 7 pixels, or a negative data range.
    """
    slices = [score.ssim for score in _score_slices(target, reconstruction, data_range)]
    return sum(slices) / len(slices)


def psnr(target: Any, reconstruction: Any, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB: `10 log10(data_range^2 / MSE)`; infinite for equal images.

    Equals `fastmri.evaluate.psnr`. Arguments and errors as for `ssim`, any image size.
    """
    error, _, n_pixels = _sums(*_pair(target, reconstruction, data_range))
    return _psnr(error, n_pixels, float(data_range))


def nmse(target: Any, reconstruction: Any, data_range: float | None = None) -> float:
    """Normalised mean squared error `||target - reconstruction||^2 / ||target||^2`.

    Equals `fastmri.evaluate.nmse`. A target of zeros gives infinity, or NaN where the reconstruction is zero
    too. Arguments and errors as for `ssim`, any image size; `data_range` is not used.
    """
    error, energy, _ = _sums(*_pair(target, reconstruction, data_range or 0.0))
    return _ratio(error, energy)


def score_slice(target: Tensor, image: Tensor, data_range: float) -> SliceScore:
    """Score one slice `(height, width)` against its target; errors as for `ssim`."""
    return next(iter(_score_slices(target, image, data_range)))


def combine_slices(slices: list[SliceScore], data_range: float) -> VolumeScore:
    """Score of a volume from those of its slices, summed in the order given."""
    error = sum(s.squared_error for s in slices)
    energy = sum(s.target_energy for s in slices)
    n_pixels = sum(s.n_pixels for s in slices)
    mean_ssim = sum(s.ssim for s in slices) / len(slices)
    return VolumeScore(mean_ssim, _psnr(error, n_pixels, data_range), _ratio(error, energy), len(slices))


def _score_slices(target: Any, image: Any, data_range: float) -> list[SliceScore]:
    target, image = _pair(target, image, data_range)
    if min(target.shape[-2:]) < WINDOW:
        raise InputError(
            f"images of {target.shape[-2]} x {target.shape[-1]} pixels are too small for SSIM: "
            f"its window has {WINDOW} x {WINDOW}"
        )
    scores = []
    for x, y in zip(target, image, strict=True):  # slice by slice: the window sums stay in the cache
        x, y = x.double(), y.double()  # noqa: PLW2901
        scores.append(SliceScore(_ssim_slice(x, y, float(data_range)), *_sums(x, y)))
    return scores


def _pair(target: Any, image: Any, data_range: float) -> tuple[Tensor, Tensor]:
    """Both as real tensors `(slices, height, width)` on one device."""
    first, second = _tensor(target, "target"), _tensor(image, "reconstruction")
    if first.shape != second.shape:
        raise InputError(
            f"target {tuple(first.shape)} and reconstruction {tuple(second.shape)} differ in shape; "
            "crop or pad the reconstruction to the target"
        )
    if first.ndim not in (2, 3) or first.numel() == 0:
        raise InputError(
            f"images have shape {tuple(first.shape)}; (slices, height, width) or (height, width) is needed"
        )
    if not 0 <= data_range < math.inf:
        raise InputError(f"data range {data_range}; it is the target's maximum over the volume, above 0")
    shape = (-1, *first.shape[-2:])
    return first.reshape(shape), second.to(first.device).reshape(shape)


def _tensor(values: Any, name: str) -> Tensor:
    values = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    if values.is_complex():
        raise InputError(f"the {name} is complex; scores are of magnitudes: give its abs()")
    return values


def _sums(target: Tensor, image: Tensor) -> tuple[float, float, int]:
    """Squared error, energy of the target, number of pixels."""
    target, image = target.double().flatten(), image.double().flatten()
    difference = target - image
    return float(difference.dot(difference)), float(target.dot(target)), target.numel()


def _ssim_slice(target: Tensor, image: Tensor, data_range: float) -> float:
    if data_range == 0:
        return math.nan
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # The variances enter only as their sum, so four window means are enough.
    maps = torch.stack((target, image, target * target + image * image, target * image))
    mean_x, mean_y, mean_squares, mean_product = _window_sums(maps).div_(_N)
    product, squares = 2 * mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = (2 * mean_product - product) * _SAMPLE_COVARIANCE
    variances = (mean_squares - squares) * _SAMPLE_COVARIANCE
    similarity = (product + c1) * (covariance + c2) / ((squares + c1) * (variances + c2))
    return float(similarity.mean())


def _window_sums(maps: Tensor) -> Tensor:
    """Sums over all 7 x 7 windows inside `(..., height, width)`; no running sum, so no growing rounding."""
    return _sums_of_seven(_sums_of_seven(maps, -2), -1)


def _sums_of_seven(values: Tensor, dim: int) -> Tensor:
    """Sums of 7 neighbours along `dim` as 4 + 2 + 1."""
    n = values.shape[dim] - WINDOW + 1
    twos = values.narrow(dim, 0, n + 5) + values.narrow(dim, 1, n + 5)
    fours = twos.narrow(dim, 0, n) + twos.narrow(dim, 2, n)
    return fours.add_(twos.narrow(dim, 4, n)).add_(values.narrow(dim, 6, n))


def _psnr(squared_error: float, n_pixels: int, data_range: float) -> float:
    mse = squared_error / n_pixels
    if data_range == 0 or math.isnan(mse):
        return math.nan
    return 20 * math.log10(data_range / math.sqrt(mse)) if mse > 0 else math.inf


def _ratio(numerator: float, denominator: float) -> float:
    if denominator > 0:
        return numerator / denominator
    return math.inf if numerator > 0 else math.nan
