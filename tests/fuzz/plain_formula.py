"""Zero-filled reconstruction from the bytes as h5py reads them, in double precision: nothing of the package."""

from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np


def expected_images(path: Path, columns: np.ndarray | None = None) -> np.ndarray:
    """Images (slices, h, w): mask, centred inverse FFT, root sum of squares, crop.

    Args:
        path: A fastMRI file.
        columns: The mask that is applied to full k-space; None: the one that the file holds, if any.
    """
    with h5py.File(path, "r") as file:
        kspace = as_complex(file["kspace"][()])
        if kspace.ndim == 3:
            kspace = kspace[:, None]
        own = file["mask"][()].reshape(-1) > 0 if columns is None and "mask" in file else columns
        shape = _image_shape(file, kspace)
    if own is not None:
        kspace = np.where(own, kspace, 0)
    images = np.fft.fftshift(_ifft2(np.fft.ifftshift(kspace, axes=(-2, -1))), axes=(-2, -1))
    return _fit(np.sqrt((np.abs(images) ** 2).sum(axis=1)), shape)


def _ifft2(kspace: np.ndarray) -> np.ndarray:
    return np.fft.ifft2(kspace, norm="ortho")


def as_complex(stored: np.ndarray) -> np.ndarray:
    """Complex128 of complex numbers, or of a compound of two, in single precision as the program keeps them."""
    with np.errstate(over="ignore"):
        if stored.dtype.names:
            real, imaginary = stored.dtype.names
            stored = stored[real].astype(np.float64) + 1j * stored[imaginary].astype(np.float64)
        return stored.astype(np.complex64).astype(np.complex128)


def target_key(file: h5py.File) -> str | None:
    """What single-coil and multi-coil files are scored against."""
    keys = ("reconstruction_esc", "reconstruction_rss") if file["kspace"].ndim == 3 else ("reconstruction_rss",)
    return next((key for key in keys if key in file), None)


def _image_shape(file: h5py.File, kspace: np.ndarray) -> tuple[int, int]:
    key = target_key(file)
    if key:
        return file[key].shape[1:]
    root = ElementTree.fromstring(file["ismrmrd_header"][()])
    matrix = next(element for element in root.iter() if element.tag.endswith("reconSpace"))
    x, y = (
        int(float(next(e for e in matrix.iter() if e.tag.endswith(f"}}{axis}") or e.tag == axis).text)) for axis in "xy"
    )
    width = kspace.shape[-1]
    return min(width if width < y else x, kspace.shape[-2]), min(y, width)


def _fit(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Crop what is larger, pad evenly what is smaller."""
    for axis, size in zip((-2, -1), shape, strict=True):
        n = images.shape[axis]
        if size <= n:
            images = np.take(images, range((n - size) // 2, (n - size) // 2 + size), axis)
        else:
            before = (size - n) // 2
            widths = [(0, 0)] * images.ndim
            widths[axis] = (before, size - n - before)
            images = np.pad(images, widths)
    return images


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """`||found - expected|| / ||expected||` of the worst slice; what single precision cannot hold does not count."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    scale = np.abs(expected).max() or 1.0
    error, expected = np.abs(found.astype(np.float64) - expected) / scale, expected / scale
    error = np.maximum(error - np.finfo(np.float32).tiny / scale, 0)
    worst, size = (np.sqrt((x**2).sum(axis=(1, 2))) for x in (error, expected))
    return float(np.where(size > 0, worst / np.where(size > 0, size, 1), worst).max())
