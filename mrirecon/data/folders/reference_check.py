"""Do the reference images of a file belong to its k-space, and is k-space where everything else expects it?

The reference should be the root sum of squares over coils of the centred inverse FFT of k-space, cropped: fastMRI's own
references are, to rounding. Files converted elsewhere go wrong in few ways, most of which one comparison shows. numpy
only: it runs where a file is first looked at, in a forked process.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from mrirecon.evaluation.resemblance import Resemblance, compare

_ALIKE = 0.95  # least correlation of a reference with the image of fully sampled k-space
_ALIKE_UNDERSAMPLED = 0.7  # and of undersampled k-space: zero-filled images of measured brains at 8x have .8 and more
_FOUND = 0.9  # least correlation that shows what k-space really is
_SAME_SCALE, _NEAR_SCALE = 1.01, 2.0  # factors between reference and image that are none, or are doubtful
_OFF_CENTRE = 4  # columns or rows; peaks of measured k-space lie within 2 of the centre
_FAINT = 0.5  # energy at the centre, over that of the peak, above which the peak is no other place
_ONE_FACTOR = 1e-3  # energy of a reference that one factor may leave unexplained


class Disagreement(NamedTuple):
    """A way in which reference and k-space of a file do not fit."""

    kind: str  # the same for files with the same fault
    text: str  # what it is and what to do, of one file
    is_certain: bool  # it is wrong for sure; else it may be meant


def find_disagreement(
    kspace: Mapping[int, np.ndarray],
    targets: Mapping[int, np.ndarray],
    shape: tuple[int, int],
    is_full: bool,
) -> Disagreement | None:
    """The first thing that does not fit, the plainest first; None: nothing was found.

    References are held against `rss_image`, which fastMRI's own equal to rounding.

    Args:
        kspace: Complex slices `(coils, height, width)` by number.
        targets: Their references `(h, w)`, where there are any.
        shape: `(h, w)` of the image.
        is_full: K-space has no gaps.
    """
    if lone := _lone_side(kspace, targets):
        return lone
    kspace = {i: slice_ for i, slice_ in kspace.items() if slice_.any()}
    if not kspace:
        return None
    off_centre = _off_centre(kspace)
    used = [i for i in targets if i in kspace and np.ptp(targets[i]) > 0]
    if not used:
        return off_centre
    target = np.stack([targets[i] for i in used])
    image = np.stack([rss_image(kspace[i], shape) for i in used])
    found = compare(target, image)
    if found.correlation < (_ALIKE if is_full else _ALIKE_UNDERSAMPLED) or found.orientation.name:
        return (
            _misplaced(found, target, [kspace[i] for i in used], shape)
            or off_centre
            or _shifted(found)
            or _unlike(found)
        )
    return off_centre or _shifted(found) or _scaled(target, image, kspace[used[0]].shape, is_full)


def _lone_side(kspace: Mapping[int, np.ndarray], targets: Mapping[int, np.ndarray]) -> Disagreement | None:
    """Find a slice in which one of k-space and reference is constant and the other is not."""
    for i in sorted(set(targets) & set(kspace)):
        is_there, is_flat = bool(kspace[i].any()), not np.ptp(targets[i])
        if not is_there and targets[i].any():
            return _certain("empty", f"kspace is 0 everywhere in slice {i}, its reference is not; copy the file again")
        if is_there and is_flat and np.abs(kspace[i]).max() > 0 and np.ptp(rss_image(kspace[i], targets[i].shape)) > 0:
            value = float(targets[i].flat[0])
            return _certain("flat", f"the reference is {value:.3g} everywhere in slice {i}, the image of kspace is not")
    return None


def rss_image(kspace: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Root sum of squares over coils of the centred orthonormal inverse FFT, float32 `shape`.

    K-space `(coils, height, width)` is taken coil by coil. The image is cropped, or padded with zeros where it is
    smaller, around its centre. Equals `fastmri.rss_complex(fastmri.ifft2c(...))` to rounding.
    """
    peak = float(np.abs(kspace).max())
    energy = np.zeros(kspace.shape[-2:], np.float32)
    for coil in kspace:
        image = np.fft.ifft2(np.fft.ifftshift(coil / np.float32(peak or 1)), norm="ortho")
        energy += (image.real**2 + image.imag**2).astype(np.float32)
    return _fitted(np.fft.fftshift(np.sqrt(energy)) * np.float32(peak), shape)


def _fitted(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Crops and paddings as `physics.center_fit` has them."""
    for axis, size in enumerate(shape):
        missing = size - image.shape[axis]
        if missing < 0:
            image = image.take(range(-missing // 2, -missing // 2 + size), axis)
        else:
            widths = [(0, 0), (0, 0)]
            widths[axis] = (missing // 2, missing - missing // 2)
            image = np.pad(image, widths)
    return image


def _checkerboard(kspace: np.ndarray) -> np.ndarray:
    height, width = kspace.shape[-2:]
    sign = (-1.0) ** (np.arange(height)[:, None] + np.arange(width))
    board: np.ndarray = kspace * sign.astype(np.float32)
    return board


# what k-space may really be, what makes it right, and the remedy in numpy
_READINGS: tuple[tuple[str, Callable[[np.ndarray], np.ndarray], str], ...] = (
    ("transposed, phase encoding before readout", lambda k: k.swapaxes(-1, -2), "kspace.swapaxes(-1, -2)"),
    ("channel-last", lambda k: np.moveaxis(k, -1, 0), "np.moveaxis(kspace, -1, 1)"),
    ("of an image that is not centred", _checkerboard, "transform fftshift(image) instead"),
    ("already an image", lambda k: _fft(k, (-2, -1)), "apply the centred FFT over both axes"),
    ("transformed along the readout already", lambda k: _fft(k, (-2,)), "apply the centred FFT over height"),
    ("transformed along the phase encoding already", lambda k: _fft(k, (-1,)), "apply the centred FFT over width"),
)


def _fft(image: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    centred = np.fft.fftn(np.fft.ifftshift(image, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(centred, axes=axes)


def _misplaced(
    as_is: Resemblance, target: np.ndarray, kspace: list[np.ndarray], shape: tuple[int, int]
) -> Disagreement | None:
    """Another reading of k-space, or another orientation, under which reference and image are alike."""
    best = max(_read_otherwise(target, kspace, shape), key=lambda found: found[0], default=None)
    if best and best[0] >= max(_FOUND, as_is.correlation + 0.05):
        correlation, name, remedy = best
        return _certain(
            name,
            f"kspace seems to be {name}: read so, its image and the reference have a correlation of {correlation:.2f}, "
            f"as stored {as_is.correlation:.2f}; write it anew ({remedy})",
        )
    if as_is.orientation.name:
        name, remedy = as_is.orientation.name, as_is.orientation.remedy
        return _certain(
            name,
            f"the image of kspace is {name} against the reference (correlation as stored {as_is.correlation:.2f}); "
            f"turn the reference or kspace ({remedy})",
        )
    return None


def _read_otherwise(
    target: np.ndarray, kspace: list[np.ndarray], shape: tuple[int, int]
) -> Iterator[tuple[float, str, str]]:
    for name, read, remedy in _READINGS:
        found = compare(target, np.stack([rss_image(read(slice_), shape) for slice_ in kspace]))
        if not found.orientation.name:
            yield found.correlation, name, remedy


def _unlike(found: Resemblance) -> Disagreement:
    return Disagreement(
        "unlike",
        f"the image of kspace and the reference are not alike (correlation {found.correlation:.2f}); scores and "
        "training need a reference of this very k-space",
        False,
    )


def _shifted(found: Resemblance) -> Disagreement | None:
    down, right = found.shift
    if not (down or right):
        return None
    text = (
        f"the image of kspace lies {down} rows and {right} columns off the reference; crop the reference around the "
        "centre of the image, height // 2 and width // 2"
    )
    return Disagreement("shifted", text, False)


def _scaled(target: np.ndarray, image: np.ndarray, of_kspace: tuple[int, ...], is_full: bool) -> Disagreement | None:
    """The reference has another unit than the image of k-space; factors are least squares of each slice and of all."""
    unit = float(image.max())
    x, y = target.astype(np.float64) / unit, image.astype(np.float64) / unit
    scale = float((x * y).sum() / (y * y).sum())
    off = max(scale, 1 / scale) if scale > 0 else math.inf
    slices = [float((a * b).sum() / (b * b).sum()) for a, b in zip(x, y, strict=True) if b.any()]
    each = zip(x, y, slices, strict=True) if len(slices) == len(x) else ()
    of_slices = sum(float(((a - s * b) ** 2).sum()) for a, b, s in each) / float((x * x).sum())
    if is_full and max(slices) > _SAME_SCALE**5 * min(slices) > 0 and of_slices <= _ONE_FACTOR:
        text = (
            f"the reference is {min(slices):.4g} to {max(slices):.4g} times the RSS image of kspace, another factor in "
            "each slice; scores and training compare the two: give all slices of a file one unit"
        )
        return Disagreement("scale of slices", text, False)
    unexplained = float(((x - scale * y) ** 2).sum() / (x * x).sum())
    is_one_factor = not is_full or unexplained <= _ONE_FACTOR
    if off <= (_SAME_SCALE if is_full and is_one_factor else _NEAR_SCALE):
        return None
    if not is_one_factor:
        text = (
            f"the reference is about {scale:.4g} times the RSS image of kspace, and no single factor makes them equal "
            "(a corrected intensity?); scores and training compare the two"
        )
        return Disagreement("intensity", text, False)
    n = math.sqrt(of_kspace[-2] * of_kspace[-1])
    cause = next((", as numpy's FFT scales without norm='ortho'" for f in (n, 1 / n) if 0.9 < scale / f < 1.1), "")
    cause = cause or ", as if scaled to [0, 1]" * (0.8 < float(target.max()) < 1.01)
    text = (
        f"the reference is {scale:.4g} times the RSS image of kspace{cause}; scores and training compare the two: "
        f"multiply kspace by {scale:.4g}, or the reference by {1 / scale:.4g}"
    )
    return Disagreement("scale", text, off > _NEAR_SCALE)


def _off_centre(kspace: Mapping[int, np.ndarray]) -> Disagreement | None:
    """The peak of k-space lies elsewhere than at height // 2 and width // 2."""
    energy = np.sum([(np.abs(s / np.abs(s).max()) ** 2).sum(0) for s in kspace.values()], axis=0)
    places = []
    for profile in (energy.sum(1), energy.sum(0)):
        centre = len(profile) // 2
        near = profile[max(centre - 1, 0) : centre + 2].max()
        peak = int(profile.argmax())
        is_off = abs(peak - centre) > _OFF_CENTRE and near < _FAINT * profile[peak]
        places.append(peak - centre if is_off else 0)
    down, right = places
    if not (down or right):
        return None
    height, width = energy.shape
    if (abs(down) >= height // 2 - 1) and (abs(right) >= width // 2 - 1):
        return _certain("corner", "the centre of kspace is in its corners; apply np.fft.fftshift over height and width")
    text = (
        f"the peak of kspace lies {down} rows and {right} columns off its centre (height // 2, width // 2), where "
        "masks keep their columns; shift it there (np.roll), unless the echo is meant to be there"
    )
    return Disagreement("off centre", text, False)


def _certain(kind: str, text: str) -> Disagreement:
    return Disagreement(kind, text, True)
