"""From coil images on a fine grid to the noisy k-space that a scanner stores."""

import numpy as np
from scipy import fft


def central_kspace(
    images: np.ndarray, corner: tuple[int, int], fine_shape: tuple[int, int], kspace_shape: tuple[int, int]
) -> np.ndarray:
    """K-space `(..., height, width)`, complex64: the central part of a finer image's transform.

    Scaled so that the centred orthonormal inverse transform of the result has the intensities of
    `images`. The image is zero outside the given part; each axis is transformed where it is smallest.

    Args:
        images: Part of the fine image, `(..., part height, part width)`.
        corner: Row and column of the fine image where that part begins.
        fine_shape: Height and width of the whole fine image, even multiples of the k-space's.
        kspace_shape: Height and width of the k-space.
    """
    columns = _central(images, corner[1], fine_shape[1], kspace_shape[1])
    rows = _central(np.swapaxes(columns, -1, -2), corner[0], fine_shape[0], kspace_shape[0])
    return np.ascontiguousarray(np.swapaxes(rows, -1, -2), dtype=np.complex64)


def images(kspace: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Fully sampled reconstruction of `(slices, coils, height, width)`: `(slices, h, w)`, float32.

    Inverse transform, centre crop, RSS; equals `mrirecon.physics` (tested), whose torch kernels would
    bring a thread pool into each thread that simulates.
    """
    return np.stack([_image(one, shape) for one in kspace])


def _image(kspace: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    top, left = ((whole - part) // 2 for whole, part in zip(kspace.shape[-2:], shape, strict=True))
    axes = (-2, -1)
    coils = fft.fftshift(fft.ifft2(fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)
    part = coils[:, top : top + shape[0], left : left + shape[1]]
    largest = np.abs(part).max() or np.float32(1)  # squares of 1e-24 would vanish
    part = part / largest
    return (np.sqrt((part.real**2 + part.imag**2).sum(axis=0)) * largest).astype(np.float32)


def noise_covariance(n_coils: int, correlation: float) -> np.ndarray:
    """`(coils, coils)`: `correlation` between neighbours, its powers further away, 1 on the diagonal."""
    distance = np.abs(np.subtract.outer(np.arange(n_coils), np.arange(n_coils)))
    return np.float64(correlation) ** distance


def complex_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sd: float, covariance: np.ndarray | None = None
) -> np.ndarray:
    """White circular noise `(slices, coils, height, width)`, complex64; real and imaginary part have SD `sd`."""
    noise = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    if covariance is not None:
        mixing = np.linalg.cholesky(covariance).astype(np.float32)
        noise = np.einsum("cd,sdhw->schw", mixing, noise)
    return noise * np.float32(sd)


def _central(image: np.ndarray, start: int, fine: int, coarse: int) -> np.ndarray:
    """The central `coarse` frequencies along the last axis of `image`, which begins at `start` of `fine`."""
    padded = np.zeros((*image.shape[:-1], fine), dtype=np.complex64)
    padded[..., start : start + image.shape[-1]] = image
    spectrum = fft.fft(fft.ifftshift(padded, axes=-1), axis=-1)
    frequencies = np.arange(coarse) - coarse // 2  # negative ones count from the end, as the transform has them
    return spectrum[..., frequencies] * np.float32(np.sqrt(coarse) / fine)
