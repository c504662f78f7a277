"""Compare images with their targets in scale, orientation, order of slices and place; numpy only.

Scores say that images differ, not how. What is measured here tells a poor reconstruction from a good one that was
handed over wrongly: scaled to [0, 1], mirrored, its slices reversed, cut off-centre. Such a thing is found only where
the images resemble their targets clearly better after they are put right than as they are.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np

_SIDE = 32  # slices are compared as means over blocks, at most this many on a side, in which noise and aliasing fade
_ALIKE = 0.7  # least correlation of images that show the same
# What is left unexplained, 1 - correlation, must shrink to this share. Nothing was found in 3,600 volumes that lay
# rightly: 8 measured and 4 simulated files, undersampled up to 16-fold, noisy, blurred, clipped, with hot pixels.
_CLEARLY = 0.7
_ALIKE_PROFILES, _CLEARLY_SHIFTED = 0.9, 0.5  # the same of profiles, which have fewer pixels
_NEGLIGIBLE = 1e-4  # unexplained shares below it say nothing
_FAINT = 0.01  # slices with a smaller share of the brightest one's energy show no object
_ENOUGH = 16  # slices of a volume that tell its scale
_SAME = 1e-6  # relative difference of a copy in single precision


@dataclass(frozen=True)
class Orientation:
    """A way in which images may lie, and what puts them right."""

    name: str  # empty: upright
    remedy: str  # numpy, for x of shape (slices, height, width)
    put_right: Callable[[np.ndarray], np.ndarray]


UPRIGHT = Orientation("", "x", lambda x: x)
ORIENTATIONS = (
    UPRIGHT,
    Orientation("mirrored left-right", "x[:, :, ::-1]", lambda x: x[:, :, ::-1]),
    Orientation("mirrored up-down", "x[:, ::-1]", lambda x: x[:, ::-1]),
    Orientation("rotated by 180 degrees", "x[:, ::-1, ::-1]", lambda x: x[:, ::-1, ::-1]),
    Orientation("transposed", "x.swapaxes(1, 2)", lambda x: x.swapaxes(1, 2)),
    Orientation("rotated by 90 degrees", "np.rot90(x, 1, (1, 2))", lambda x: np.rot90(x, 1, (1, 2))),
    Orientation("rotated by 90 degrees", "np.rot90(x, -1, (1, 2))", lambda x: np.rot90(x, -1, (1, 2))),
    Orientation(
        "transposed and rotated by 180 degrees",
        "x.swapaxes(1, 2)[:, ::-1, ::-1]",
        lambda x: x.swapaxes(1, 2)[:, ::-1, ::-1],
    ),
)


@dataclass(frozen=True)
class Resemblance:
    """The findings about a volume of images `(slices, h, w)` and their targets."""

    n_slices: int
    correlation: float  # of the images as they are with their targets, as means over blocks; 0 for images of one value
    orientation: Orientation
    order: str  # of the slices; empty: as it should be
    shift: tuple[int, int]  # pixels down and to the right that the images lie off their targets
    scale: float  # what the images must be multiplied by: median over bright pixels; NaN: it has no meaning
    slice_scales: tuple[float, float]  # the least and the largest of single slices
    negative: float  # share of the images' energy that is in values below zero
    n_constant: int  # slices of one value whose target is none
    is_copy: bool  # equal to the targets in single precision, but for a factor
    middle: tuple[np.ndarray, np.ndarray]  # target and image of the middle slice, as means over blocks


class Comparison:
    """Compares a volume slice by slice; of each, a small image and some numbers are kept."""

    def __init__(self) -> None:
        self._slices: list[_Slice] = []
        self._brightest: tuple[np.ndarray, np.ndarray] | None = None  # target and image, at full size

    def add(self, target: np.ndarray, image: np.ndarray) -> None:
        """The next target and its image, real, both `(height, width)`."""
        found = _measured(target, image)
        if found.energy >= max((s.energy for s in self._slices), default=0.0):
            self._brightest = target, image
        self._slices.append(found)

    def result(self) -> Resemblance:
        """Combine the findings of all slices; one must have been added."""
        slices = self._slices
        targets, images = np.array([s.target for s in slices]), np.array([s.image for s in slices])
        energy = np.array([s.energy for s in slices])
        weights = np.where(energy > _FAINT * energy.max(), energy, 0.0)
        correlation, orientation, order = _placed(targets, images, weights)
        images = orientation.put_right(images)[order.images]
        shown = zip(targets[order.targets], images, weights[order.targets] > 0, strict=True)
        bright = [(target, image) for target, image, is_bright in shown if is_bright]
        some = bright[:: -(-len(bright) // _ENOUGH) or 1]
        scales = [scale for pair in some if math.isfinite(scale := _scale(*pair))]
        of_target, product, square = np.sum([s.sums for s in slices], axis=0).tolist()
        return Resemblance(
            n_slices=len(slices),
            correlation=correlation,
            orientation=orientation,
            order=order.name,
            shift=(0, 0) if orientation.name or order.name else self._shift(),
            scale=median(scales) if scales else math.nan,
            slice_scales=(min(scales), max(scales)) if scales else (math.nan, math.nan),
            negative=sum(s.negative for s in slices) / square if square else 0.0,
            n_constant=sum(s.is_constant for s in slices),
            is_copy=product > 0 and square * of_target - product**2 <= _SAME**2 * square * of_target,
            middle=(slices[len(slices) // 2].target, slices[len(slices) // 2].image),
        )

    def _shift(self) -> tuple[int, int]:
        """Return the shift that the profiles of all slices show, where the brightest slice agrees."""
        down, right = (_profile_shift([s.profiles[axis] for s in self._slices]) for axis in (0, 1))
        if self._brightest is None or not (down or right):
            return 0, 0
        target, image = (_standardised(x[None])[0] for x in self._brightest)
        moved = _standardised(np.roll(self._brightest[1], (-down, -right), (0, 1))[None])[0]
        return (down, right) if float(target @ moved) > max(float(target @ image), _ALIKE) else (0, 0)


def compare(target: Any, image: Any) -> Resemblance:
    """Compare images `(slices, h, w)` with their targets.

    The correlation of a slice is Pearson's, that of numpy's `corrcoef`, of both as means over blocks.

    Args:
        target: Real array, `(slices, height, width)` or `(height, width)`.
        image: The same shape, in any units.
    """
    comparison = Comparison()
    for pair in zip(*(np.reshape(x, (-1, *np.shape(target)[-2:])) for x in (target, image)), strict=True):
        comparison.add(*pair)
    return comparison.result()


def swapped(volumes: Sequence[Resemblance]) -> list[tuple[int, int]]:
    """Find volumes whose images show the target of another one of their shape, as (images of, target of)."""
    of_shape: dict[tuple[int, ...], list[int]] = {}
    for i, volume in enumerate(volumes):
        of_shape.setdefault(volume.middle[0].shape, []).append(i)
    found: list[tuple[int, int]] = []
    for numbers in of_shape.values():
        targets, images = (np.array([volumes[i].middle[side] for i in numbers]) for side in (0, 1))
        *_, order = _placed(targets, images, np.ones(len(numbers)), (UPRIGHT,))
        pairs = zip(order.images.tolist(), order.targets.tolist(), strict=True)
        found += [(numbers[i], numbers[j]) for i, j in pairs if i != j]
    return found


class _Slice(NamedTuple):
    target: np.ndarray  # small, (h, w)
    image: np.ndarray
    profiles: tuple[tuple[np.ndarray, np.ndarray], ...]  # of target and image, from top to bottom and left to right
    energy: float  # of the target, without its mean
    sums: tuple[float, ...]  # of target * target, target * image, image * image
    negative: float  # sum of image * image where it is negative
    is_constant: bool


def _measured(target: np.ndarray, image: np.ndarray) -> _Slice:
    target, image = target.astype(np.float64, copy=False), image.astype(np.float64, copy=False)
    (small, *of_target), (small_image, *of_image) = _views(target), _views(image)
    low = float(image.min())
    below = image[image < 0] if low < 0 else image[:0]
    is_constant = not np.ptp(small_image) and low == float(image.max())
    return _Slice(
        small.astype(np.float32),  # of a long volume there are many
        small_image.astype(np.float32),
        tuple(zip(of_target, of_image, strict=True)),
        float(((small - small.mean()) ** 2).sum()),
        tuple(float(np.einsum("ij,ij", x, y)) for x, y in ((target, target), (target, image), (image, image))),
        float((below * below).sum()),
        is_constant and bool(np.ptp(target)),
    )


def _views(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image as means over square blocks, as sums of its rows and as sums of its columns.

    The blocks are those of the middle, so that a mirrored image has the mirrored blocks.
    """
    height, width = image.shape
    block = min(-(-max(height, width) // _SIDE), height, width)
    rows, columns = height // block, width // block
    top, left = (height - rows * block) // 2, (width - columns * block) // 2
    of_rows = image[top : top + rows * block].reshape(rows, block, width).sum(1)
    of_blocks = of_rows[:, left : left + columns * block].reshape(rows, columns, block).sum(2)
    return of_blocks / block**2, np.einsum("ij->i", image).astype(np.float32), of_rows.sum(0).astype(np.float32)


def _standardised(images: np.ndarray) -> np.ndarray:
    """Each image as a vector of mean 0 and length 1, whose products are correlations; of one value: zeros."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(1, keepdims=True)
    peaks = np.abs(flat).max(1, keepdims=True)  # of tiny values the squares would be zero
    np.divide(flat, peaks, out=flat, where=peaks > 0)
    lengths = np.sqrt((flat * flat).sum(1, keepdims=True))
    return np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 0)


def _placed(
    targets: np.ndarray, images: np.ndarray, weights: np.ndarray, among: Sequence[Orientation] = ORIENTATIONS
) -> tuple[float, Orientation, "_Order"]:
    """The correlation as the images are, and the orientation and order in which they resemble the targets best."""
    wanted, ours = _standardised(targets), _standardised(images).reshape(images.shape)
    alike = {
        orientation: turned.reshape(len(wanted), -1) @ wanted.T  # (image, target)
        for orientation in among
        if (turned := orientation.put_right(ours)).shape == targets.shape
    }
    own = _mean_of(alike[UPRIGHT], _in_order(len(targets)), weights)
    best, most = (UPRIGHT, _in_order(len(targets))), own
    for orientation, of_pairs in alike.items():
        nearest = _Order("", of_pairs.argmax(0), np.arange(len(targets)))
        if 1 - _mean_of(of_pairs, nearest, weights) >= _CLEARLY * (1 - own):
            continue  # no order can be clearly better
        for order in _orders(of_pairs, weights):
            found = _mean_of(of_pairs, order, weights)
            if found > most + _NEGLIGIBLE and _is_clear(found, alike[UPRIGHT], order, weights):
                best, most = (orientation, order), found
    return own, *best


class _Order(NamedTuple):
    """Slice `images[k]` shows what target `targets[k]` shows."""

    name: str
    images: np.ndarray
    targets: np.ndarray


def _in_order(n: int) -> _Order:
    return _Order("", np.arange(n), np.arange(n))


def _orders(alike: np.ndarray, weights: np.ndarray) -> Iterator[_Order]:
    """The orders that may be, the simple ones first."""
    n = len(weights)
    places = np.arange(n)
    yield _in_order(n)
    yield _Order("in reversed order", places[::-1], places)
    for by in range(1, n // 2 + 1):
        yield _Order(f"late by {by}", places[by:], places[:-by])
        yield _Order(f"early by {by}", places[:-by], places[by:])
    bright = places[weights > 0]
    nearest = alike.argmax(0)[bright]
    if len(np.unique(nearest)) == len(nearest):
        yield _Order("in another order", nearest, bright)


def _is_clear(found: float, as_is: np.ndarray, order: _Order, weights: np.ndarray) -> bool:
    """Return whether an order of slices explains the targets clearly better than the images as they are."""
    parts = (np.arange(len(weights)), order.targets, order.images)
    own = max(_mean_of(as_is, _Order("", part, part), weights) for part in parts)
    return found >= _ALIKE and 1 - found < _CLEARLY * (1 - own)


def _mean_of(alike: np.ndarray, order: _Order, weights: np.ndarray) -> float:
    """Mean correlation of the targets with their images."""
    of_targets = weights[order.targets]
    total = float(of_targets.sum())
    return float((of_targets * alike[order.images, order.targets]).sum()) / total if total > 0 else 0.0


def _profile_shift(profiles: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    """Pixels by which the images' profiles lie behind those of the targets; 0 where that is not clear."""
    target, image = (np.array(side, np.float64) for side in zip(*profiles, strict=True))
    target, image = target - target.mean(1, keepdims=True), image - image.mean(1, keepdims=True)
    length = math.sqrt(float((target * target).sum()) * float((image * image).sum()))
    if length == 0:
        return 0
    size = target.shape[1]
    alike = np.fft.irfft(np.conj(np.fft.rfft(target)) * np.fft.rfft(image), size).sum(0) / length
    place = int(alike.argmax())
    is_clear = alike[place] >= _ALIKE_PROFILES and 1 - alike[place] < _CLEARLY_SHIFTED * (1 - alike[0])
    if not is_clear or alike[place] - alike[0] < _NEGLIGIBLE:
        return 0
    return place if place <= size // 2 else place - size


def _scale(target: np.ndarray, image: np.ndarray) -> float:
    """Return the factor from image to target, the median over bright pixels; NaN where it is not positive."""
    bright = target > target.mean()
    middle = float(np.median(image[bright].astype(np.float64) / target[bright])) if bright.any() else 0.0
    return 1 / middle if middle > 0 else math.nan
