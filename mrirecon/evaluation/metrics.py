"""SSIM, PSNR and NMSE of one volume, computed in double precision.

Definitions as in fastMRI: the error sums run over the whole volume, SSIM is the mean over its slices, and
the data range (the target's maximum over the volume) is always given, never guessed. Values that have no
definition (a target of zeros) come out as NaN or infinity, so one bad volume does not end an evaluation.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from mrirecon.errors import InputError

WINDOW = 7  # pixels on a side, uniform weights
K1, K2 = 0.01, 0.03
_SAMPLE_COVARIANCE = WINDOW**2 / (WINDOW**2 - 1)
_ROWS = 48
Value = TypeVar("Value")


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
    error, _, n_pixels = _volume_sums(target, reconstruction, data_range)
    return _psnr(error, n_pixels, float(data_range))


def nmse(target: Any, reconstruction: Any, data_range: float | None = None) -> float:
    """Normalised mean squared error `||target - reconstruction||^2 / ||target||^2`.

    Equals `fastmri.evaluate.nmse`. A target of zeros gives infinity, or NaN where the reconstruction is zero
    too. Arguments and errors as for `ssim`, any image size; `data_range` is not used.
    """
    error, energy, _ = _volume_sums(target, reconstruction, data_range or 0.0)
    return _ratio(error, energy)


def score_slice(target: Any, image: Any, data_range: float) -> SliceScore:
    """Score one slice `(height, width)` against its target; errors as for `ssim`."""
    (score,) = _score_slices(target, image, data_range)
    return score


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

    def score(k: int) -> SliceScore:
        x, y = target[k].astype(np.float64), image[k].astype(np.float64)
        return SliceScore(_ssim_slice(x, y, float(data_range)), *_sums(x, y))

    return _each(score, len(target))


def _each(work: Callable[[int], Value], n: int) -> list[Value]:
    """`work` of every slice, in as many threads as torch uses; numpy lets them run side by side.

    Torch's own threads wait for each other at every operation, which costs more than it gains here.
    """
    n_threads = min(n, torch.get_num_threads())
    if n_threads == 1:
        return [work(k) for k in range(n)]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(work, range(n)))


def _pair(target: Any, image: Any, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Both as real arrays `(slices, height, width)`."""
    first, second = _array(target, "target"), _array(image, "reconstruction")
    if first.shape != second.shape:
        raise InputError(
            f"target {first.shape} and reconstruction {second.shape} differ in shape; "
            "crop or pad the reconstruction to the target"
        )
    if first.ndim not in (2, 3) or first.size == 0:
        raise InputError(f"images have shape {first.shape}; (slices, height, width) or (height, width) is needed")
    if not 0 <= data_range < math.inf:
        raise InputError(f"data range {data_range}; it is the target's maximum over the volume, above 0")
    shape = (-1, *first.shape[-2:])
    return first.reshape(shape), second.reshape(shape)


def _array(values: Any, name: str) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.double() if values.dtype == torch.bfloat16 else values  # unknown to numpy
    array = np.asarray(values)
    if np.iscomplexobj(array):
        raise InputError(f"the {name} is complex; scores are of magnitudes: give its abs()")
    return array


def _volume_sums(target: Any, image: Any, data_range: float) -> tuple[float, float, int]:
    x, y = _pair(target, image, data_range)
    parts = _each(lambda k: _sums(x[k].astype(np.float64), y[k].astype(np.float64)), len(x))
    return sum(p[0] for p in parts), sum(p[1] for p in parts), sum(p[2] for p in parts)


def _sums(target: np.ndarray, image: np.ndarray) -> tuple[float, float, int]:
    """Squared error, energy of the target, number of pixels."""
    difference = target - image
    difference *= difference
    return float(difference.sum()), float((target * target).sum()), target.size  # not BLAS: its threads spin


def _ssim_slice(target: np.ndarray, image: np.ndarray, data_range: float) -> float:
    if data_range == 0:
        return math.nan
    height, width = (size - WINDOW + 1 for size in target.shape)
    total = 0.0
    for top in range(0, height, _ROWS):  # in strips, which stay in the cache
        strip = slice(top, min(top + _ROWS, height) + WINDOW - 1)
        total += _similarity_sum(target[strip], image[strip], data_range)
    return total / (height * width)


def _similarity_sum(x: np.ndarray, y: np.ndarray, data_range: float) -> float:
    """Sum of `(2 mx my + c1) (2 sxy + c2) / ((mx^2 + my^2 + c1) (sx^2 + sy^2 + c2))` over all windows."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # The variances enter only as their sum, so four window means are enough.
    maps = np.empty((4, *x.shape))
    maps[0], maps[1] = x, y
    np.multiply(x, x, out=maps[2])
    maps[2] += y * y
    np.multiply(x, y, out=maps[3])
    mean_x, mean_y, squares, product = _window_means(maps)
    of_means, squares_of_means = 2 * mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = _SAMPLE_COVARIANCE * (2 * product - of_means) + c2
    variances = _SAMPLE_COVARIANCE * (squares - squares_of_means) + c2
    return float(((of_means + c1) * covariance / ((squares_of_means + c1) * variances)).sum())


def _window_means(maps: np.ndarray) -> np.ndarray:
    """Means over all 7 x 7 windows inside `(..., height, width)`, seven rows, then seven columns, as 4 + 2 + 1.

    No running sum, so rounding does not grow along the image.
    """
    rows, columns = (size - WINDOW + 1 for size in maps.shape[-2:])
    twos = maps[..., :-1, :] + maps[..., 1:, :]
    sums = twos[..., :rows, :] + twos[..., 2 : rows + 2, :]
    sums += twos[..., 4 : rows + 4, :]
    sums += maps[..., 6:, :]
    twos = sums[..., :-1] + sums[..., 1:]
    means = twos[..., :columns] + twos[..., 2 : columns + 2]
    means += twos[..., 4 : columns + 4]
    means += sums[..., 6:]
    means /= WINDOW * WINDOW
    return means


def _psnr(squared_error: float, n_pixels: int, data_range: float) -> float:
    mse = squared_error / n_pixels
    if data_range == 0 or math.isnan(mse):
        return math.nan
    return 20 * math.log10(data_range / math.sqrt(mse)) if mse > 0 else math.inf


def _ratio(numerator: float, denominator: float) -> float:
    if denominator > 0:
        return numerator / denominator
    return math.inf if numerator > 0 else math.nan
