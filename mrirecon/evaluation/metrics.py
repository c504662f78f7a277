"""Scores of images against their targets, computed in double precision: SSIM, PSNR, NMSE and the others of `METRICS`.

Definitions as in fastMRI: the error sums run over the whole volume, SSIM is the mean over its slices, and
the data range (the target's maximum over the volume) is always given, never guessed. Values that have no
definition (a target of zeros) come out as NaN or infinity, so one bad volume does not end an evaluation.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.evaluation.foreground import find_object
from mrirecon.tables.entry import builder
from mrirecon.tables.metrics import METRICS, OBJECT_SIZE, chosen_metrics

WINDOW = 7  # pixels on a side, uniform weights
K1, K2 = 0.01, 0.03
_SAMPLE_COVARIANCE = WINDOW**2 / (WINDOW**2 - 1)
_ROWS = 48
Value = TypeVar("Value")


class Target:
    """The target `(height, width)` of a slice, and what metrics make of it, once for all images held against it.

    Args:
        values: float64.
        data_range: Maximum of the target over the whole volume.
        object_mask: Where the object is, bool `(height, width)`; None: found by a rule (see `evaluation.objects`).
    """

    def __init__(self, values: np.ndarray, data_range: float, object_mask: np.ndarray | None = None) -> None:
        self.values, self.data_range, self._object_mask = values, data_range, object_mask
        self._made: dict[Callable[[Target], Any], Any] = {}

    @cached_property
    def object_mask(self) -> np.ndarray:
        """Mask of the object, bool `(height, width)`."""
        return find_object(self.values, self.data_range) if self._object_mask is None else self._object_mask

    def once(self, make: Callable[["Target"], Value]) -> Value:
        """Return `make(self)`, computed at the first call and kept."""
        if make not in self._made:
            self._made[make] = make(self)
        made: Value = self._made[make]
        return made


class SlicePair:
    """A slice as metrics see it: its target, and an image `(height, width)` in float64.

    Args:
        target, image: The pair.
        find_map: Gives the SSIM map where it is computed elsewhere; None: here.
    """

    def __init__(self, target: Target, image: np.ndarray, find_map: Callable[[], np.ndarray] | None = None) -> None:
        self.target, self.image, self.find_map = target, image, find_map

    @cached_property
    def similarity(self) -> list[np.ndarray]:
        """The SSIM map (Wang et al. 2004) over the centres of windows, `(height - 6, width - 6)`, in strips of rows."""
        if self.find_map is not None:
            return [self.find_map()]
        x, y, data_range = self.target.values, self.image, self.target.data_range
        means = self.target.once(_window_means_in_strips)
        strips = zip(_strips(len(x)), means, strict=True)
        return [_similarity(x[strip], y[strip], mean_x, data_range) for strip, mean_x in strips]


class SliceScore(NamedTuple):
    """Sums that one slice adds to the scores of its volume; each of `columns` is an attribute, too."""

    metrics: tuple[str, ...]
    columns: Mapping[str, float]

    def __getattr__(self, name: str) -> float:
        return _found(self, self.columns, name)


class VolumeScore(NamedTuple):
    """The scores of one volume by metric; each is an attribute, too (`score.ssim`)."""

    scores: Mapping[str, float]
    n_slices: int
    sums: Mapping[str, float] = {}  # over its slices, by column; empty for a mean over volumes

    def __getattr__(self, name: str) -> float:
        return _found(self, self.scores, name)

    @property
    def n_object_windows(self) -> int | None:
        """SSIM windows whose centre lies inside the object, in all slices; None where no metric counted them."""
        return int(self.sums[OBJECT_SIZE]) if OBJECT_SIZE in self.sums else None


def _found(record: object, values: Mapping[str, float], name: str) -> float:
    if name not in values:
        raise AttributeError(f"{type(record).__name__} has no {name}, but {', '.join(values) or 'nothing'}")
    return values[name]


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
    slices = [score.columns["ssim"] for score in _score_slices(target, reconstruction, data_range, ["ssim"])]
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


def score_slice(
    target: Any,
    image: Any,
    data_range: float,
    metrics: Sequence[str] | None = None,
    object_mask: Any = None,
) -> SliceScore:
    """Score one slice against its target.

    Args:
        target, image: `(height, width)`, tensors or arrays, real.
        data_range: Maximum of the target over the whole volume, as fastMRI's evaluation takes it.
        metrics: Names of `METRICS`; None: the default ones.
        object_mask: Where the object is, `(height, width)`, for metrics that ask; None: found by a rule.

    Raises:
        InputError: Different shapes, complex values, images smaller than a metric takes, a negative data range, an
            unknown metric, or an object mask of another shape.
    """
    (score,) = _score_slices(target, image, data_range, chosen_metrics(metrics), object_mask)
    return score


def score_images(
    target: Any,
    images: Iterable[Any],
    data_range: float,
    metrics: Sequence[str],
    object_mask: Any = None,
    find_maps: Iterable[Callable[[], np.ndarray] | None] = repeat(None),
) -> Iterator[SliceScore]:
    """`score_slice` of several images of one slice, with less work than one by one; `find_maps`: see `SlicePair`."""
    shared: Target | None = None
    for image, find_map in zip(images, find_maps, strict=False):
        x, y = _pair(target, image, data_range)
        _require_size(x.shape[-2:], metrics)
        if shared is None:
            shared = Target(x[0].astype(np.float64), float(data_range), _mask(object_mask, x.shape[-2:]))
        yield score_pair(SlicePair(shared, y[0].astype(np.float64), find_map), metrics)


def combine_slices(slices: Sequence[SliceScore], data_range: float) -> VolumeScore:
    """Score of a volume from those of its slices, summed in the order given."""
    sums = {name: sum(s.columns[name] for s in slices) for name in slices[0].columns}
    return volume_score(slices[0].metrics, sums, len(slices), data_range)


def volume_score(metrics: Sequence[str], sums: Mapping[str, float], n_slices: int, data_range: float) -> VolumeScore:
    """Score of a volume from the sums of its columns over `n_slices` slices.

    As in fastMRI's evaluation errors are of the whole volume, and SSIM is the mean over slices.
    """
    scores = {name: builder(METRICS[name].of_volume)(sums, n_slices, data_range) for name in metrics}
    return VolumeScore(scores, n_slices, sums)


def columns_of(metrics: Sequence[str]) -> list[str]:
    """The columns that the metrics are combined from, each once."""
    return list(dict.fromkeys(column for name in metrics for column in METRICS[name].columns))


def too_small(shape: Sequence[int], metrics: Sequence[str]) -> str:
    """Say why an image of `shape` (height, width) cannot be scored; empty where it can."""
    for metric in (METRICS[name] for name in metrics):
        if min(shape) < metric.smallest:
            n = metric.smallest
            return f"{shape[0]} x {shape[1]} pixels are too small for {metric.label}, whose window has {n} x {n}"
    return ""


def ssim_of_slice(pair: SlicePair) -> tuple[float]:
    """Mean of the SSIM map (Wang et al. 2004); NaN where the data range is 0."""
    if pair.target.data_range == 0:
        return (math.nan,)
    total, n_windows = 0.0, 0
    for strip in pair.similarity:
        total += float(strip.sum())
        n_windows += strip.size
    return (total / n_windows,)


def ssim_of_volume(sums: Mapping[str, float], n_slices: int, _data_range: float) -> float:
    """Mean over slices, as fastMRI takes it."""
    return sums["ssim"] / n_slices


def ssim_object_of_slice(pair: SlicePair) -> tuple[float, int, int]:
    """Mean of the SSIM map over the windows whose centre lies inside the object, 1, their number; else three zeros.

    SSIM: Wang et al. 2004.
    """
    total, n_windows = similarity_inside(pair, pair.target.object_mask)
    return (total / n_windows, 1, n_windows) if n_windows else (0.0, 0, 0)


def similarity_inside(pair: SlicePair, inside: np.ndarray) -> tuple[float, int]:
    """Sum of the SSIM map (Wang et al. 2004) over the windows whose centre is `inside`, and their number.

    The sum is NaN where the data range is 0.

    Args:
        pair: A slice of at least 7 x 7 pixels.
        inside: Bool `(height, width)`; no window has its centre within 3 pixels of the edge.
    """
    edge = WINDOW // 2
    centres = inside[edge:-edge, edge:-edge]
    n_windows = int(np.count_nonzero(centres))
    if n_windows == 0:
        return 0.0, 0
    if pair.target.data_range == 0:
        return math.nan, n_windows
    total, top = 0.0, 0
    for strip in pair.similarity:
        total += float(strip[centres[top : top + len(strip)]].sum())
        top += len(strip)
    return total, n_windows


def ssim_object_of_volume(sums: Mapping[str, float], _n_slices: int, _data_range: float) -> float:
    """Mean over the slices that have an object; NaN where none has."""
    return sums["ssim_object"] / sums["n_object_slices"] if sums["n_object_slices"] else math.nan


def error_sums(pair: SlicePair) -> tuple[float, float, int]:
    """Squared error, energy of the target (both in its squared units), number of pixels.

    PSNR and NMSE of fastMRI's evaluation are ratios of their sums over a volume.
    """
    difference = pair.target.values - pair.image
    difference *= difference
    squared = float(difference.sum())  # not BLAS: its threads spin
    return squared, pair.target.once(_energy), pair.image.size


def psnr_of_volume(sums: Mapping[str, float], _n_slices: int, data_range: float) -> float:
    """Compute it in dB, over the whole volume as fastMRI does; see `psnr`."""
    return _psnr(sums["squared_error"], sums["n_pixels"], data_range)


def nmse_of_volume(sums: Mapping[str, float], _n_slices: int, _data_range: float) -> float:
    """Compute it over the whole volume, as fastMRI does; see `nmse`."""
    return _ratio(sums["squared_error"], sums["target_energy"])


def edge_sums(pair: SlicePair) -> tuple[float, float]:
    """Energies of the difference and of the target after the filter of HFEN (Ravishankar and Bresler 2011)."""
    return float((_edges(pair.target.values - pair.image) ** 2).sum()), pair.target.once(_edge_energy)


def hfen_of_volume(sums: Mapping[str, float], _n_slices: int, _data_range: float) -> float:
    """High-frequency error norm (Ravishankar and Bresler 2011): norm of the filtered difference over the target's."""
    return math.sqrt(_ratio(sums["edge_error"], sums["edge_energy"]))


def _edge_energy(target: Target) -> float:
    return float((_edges(target.values) ** 2).sum())


def _edges(image: np.ndarray) -> np.ndarray:
    """An image `(height, width)` filtered with a Laplacian of Gaussian, 15 x 15, standard deviation 1.5 pixels.

    Equals MATLAB's `imfilter(image, fspecial('log', 15, 1.5))`, with which the authors' code computes HFEN: a kernel
    `g(x, y) (x^2 + y^2 - 2 s^2) / s^4`, g of sum 1, whose mean is subtracted; zeros around the image. The kernel is the
    sum of three products of a row and a column.
    """
    from scipy.ndimage import correlate1d

    x, variance = np.arange(-7.0, 8.0), 1.5**2
    gauss = np.exp(-(x**2) / (2 * variance))
    gauss /= gauss.sum()
    curved = gauss * (x**2 - variance) / variance**2
    mean = 2 * curved.sum() / len(x) ** 2
    filtered = np.zeros_like(image)
    for rows, columns in ((gauss, curved), (curved, gauss), (np.full_like(x, -mean), np.ones_like(x))):
        filtered += correlate1d(correlate1d(image, rows, axis=0, mode="constant"), columns, axis=1, mode="constant")
    return filtered


def score_pair(pair: SlicePair, metrics: Sequence[str]) -> SliceScore:
    """Score a pair by the names of `METRICS`."""
    columns: dict[str, float] = {}
    for names, of_slice in {(METRICS[name].columns, METRICS[name].of_slice): None for name in metrics}:
        columns |= zip(names, builder(of_slice)(pair), strict=True)
    return SliceScore(tuple(metrics), columns)


def _score_slices(
    target: Any, image: Any, data_range: float, metrics: Sequence[str], object_mask: Any = None
) -> list[SliceScore]:
    target, image = _pair(target, image, data_range)
    _require_size(target.shape[-2:], metrics)
    inside = _mask(object_mask, target.shape[-2:])

    def score(k: int) -> SliceScore:
        x, y = target[k].astype(np.float64), image[k].astype(np.float64)
        return score_pair(SlicePair(Target(x, float(data_range), inside), y), metrics)

    return _each(score, len(target))


def _require_size(shape: Sequence[int], metrics: Sequence[str]) -> None:
    if reason := too_small(shape, metrics):
        raise InputError(f"images of {reason}")


def _mask(object_mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """As a bool array; None where there is none (also an empty tensor, as samples hold it)."""
    if object_mask is None or not len(object_mask):
        return None
    mask = np.asarray(object_mask.cpu() if isinstance(object_mask, Tensor) else object_mask)
    if mask.shape != shape:
        raise InputError(f"an object mask of {mask.shape} for images of {shape}; give one of the images' shape")
    return mask.astype(bool)


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

    def sums(k: int) -> tuple[float, float, int]:
        return error_sums(SlicePair(Target(x[k].astype(np.float64), data_range), y[k].astype(np.float64)))

    parts = _each(sums, len(x))
    return sum(p[0] for p in parts), sum(p[1] for p in parts), sum(p[2] for p in parts)


def _energy(target: Target) -> float:
    return float((target.values * target.values).sum())


def _strips(height: int) -> list[slice]:
    """The rows of an image by which its windows are worked through: strips stay in the processor's cache."""
    n_windows = height - WINDOW + 1
    return [slice(top, min(top + _ROWS, n_windows) + WINDOW - 1) for top in range(0, n_windows, _ROWS)]


def _window_means_in_strips(target: Target) -> list[np.ndarray]:
    return [_window_means(target.values[strip]) for strip in _strips(len(target.values))]


def _similarity(x: np.ndarray, y: np.ndarray, mean_x: np.ndarray, data_range: float) -> np.ndarray:
    """`(2 mx my + c1) (2 sxy + c2) / ((mx^2 + my^2 + c1) (sx^2 + sy^2 + c2))` of every window."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # The variances enter only as their sum, so four window means are enough.
    maps = np.empty((3, *x.shape))
    maps[0] = y
    np.multiply(x, x, out=maps[1])
    maps[1] += y * y
    np.multiply(x, y, out=maps[2])
    mean_y, squares, product = _window_means(maps)
    of_means, squares_of_means = 2 * mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = _SAMPLE_COVARIANCE * (2 * product - of_means) + c2
    variances = _SAMPLE_COVARIANCE * (squares - squares_of_means) + c2
    similarity: np.ndarray = (of_means + c1) * covariance / ((squares_of_means + c1) * variances)
    return similarity


def similarity_maps(target: Tensor, image: Tensor, data_range: Tensor) -> Tensor:
    """Compute SSIM maps (Wang et al. 2004) of a batch on the device that it is on, in double precision.

    Equals `skimage.metrics.structural_similarity(..., full=True)` inside its border, and `SlicePair.similarity`, but
    for rounding.

    Args:
        target, image: `(batch, height, width)`, real.
        data_range: `(batch,)`, maximum of the target over the whole volume.

    Returns:
        float64 `(batch, height - 6, width - 6)`; NaN where the data range and the window are 0.
    """
    x, y = target.double(), image.double()
    c1, c2 = ((k * data_range.to(x)).square()[:, None, None] for k in (K1, K2))
    means = torch.nn.functional.avg_pool2d(torch.stack([x, y, x * x + y * y, x * y], dim=1), WINDOW, stride=1)
    mean_x, mean_y, squares, product = means.unbind(dim=1)
    of_means, squares_of_means = 2 * mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = _SAMPLE_COVARIANCE * (2 * product - of_means) + c2
    variances = _SAMPLE_COVARIANCE * (squares - squares_of_means) + c2
    return (of_means + c1) * covariance / ((squares_of_means + c1) * variances)


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


def _psnr(squared_error: float, n_pixels: float, data_range: float) -> float:
    mse = squared_error / n_pixels
    if data_range == 0 or math.isnan(mse):
        return math.nan
    return 20 * math.log10(data_range / math.sqrt(mse)) if mse > 0 else math.inf


def _ratio(numerator: float, denominator: float) -> float:
    if denominator > 0:
        return numerator / denominator
    return math.inf if numerator > 0 else math.nan
