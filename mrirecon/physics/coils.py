"""Coil combination, coil sensitivity maps, noise, centre crops, on complex `(..., coils, height, width)`.

Roemer et al., The NMR phased array, MRM 1990: combining with the maps has the best signal-to-noise ratio where coils
have equal, uncorrelated noise; the root sum of squares needs no maps."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics.fourier import ifft2c

_COIL_AXIS = -3


def rss(images: Tensor) -> Tensor:
    """Combine coil images `(..., coils, height, width)` to the root sum of squares, real `(..., height, width)`.

    `sqrt(sum over c of |x_c|^2)` (Roemer et al., MRM 1990). Each image is scaled by a power of two first
    (exact), so that single precision neither underflows at a k-space scale of 1e-24 nor overflows at 1e24. Equals
    `fastmri.rss_complex`.
    """
    magnitude = images.abs()
    _, exponent = torch.frexp(magnitude.detach().amax(dim=(-3, -2, -1), keepdim=True))
    scale = torch.ldexp(torch.ones_like(exponent, dtype=magnitude.dtype), exponent)
    return torch.linalg.vector_norm(magnitude / scale, dim=_COIL_AXIS) * scale.squeeze(_COIL_AXIS)


def expand_coils(image: Tensor, smaps: Tensor) -> Tensor:
    """Multiply an image `(..., height, width)` by `smaps` `(..., coils, height, width)`: the images its coils see.

    The sensitivity encoding of SENSE (Pruessmann et al., MRM 1999); its adjoint is `combine_coils`.
    """
    return image.unsqueeze(_COIL_AXIS) * smaps


def combine_coils(images: Tensor, smaps: Tensor) -> Tensor:
    """Combine coil images `(..., coils, height, width)` with `smaps` of that shape to `(..., height, width)`.

    `sum over c of conj(S_c) x_c`, the adjoint of `expand_coils`; where the squared magnitudes of the maps add up to 1,
    the combination of Roemer et al. (MRM 1990) for equal, uncorrelated noise.
    """
    return (images * smaps.conj()).sum(dim=_COIL_AXIS)


def low_resolution_smaps(kspace: Tensor, n_center: int) -> Tensor:
    """Estimate coil sensitivity maps `(..., coils, height, width)` from the central columns, root sum of squares 1.

    The images of the Hann-windowed centre over their RSS (McKenzie et al., MRM 2002; Pruessmann et al., 1999): good
    for combining coils, too smooth at edges for SENSE. 0 where nothing was received.

    Args:
        kspace: `(..., coils, height, width)`.
        n_center: Number of central columns to use; as large a share of the rows is used.
    """
    height, width = kspace.shape[-2:]
    rows = _center_window(height, max(2, round(n_center * height / width)), kspace)
    columns = _center_window(width, max(2, n_center), kspace)
    images = ifft2c(kspace * rows[:, None] * columns)
    magnitude = rss(images).unsqueeze(_COIL_AXIS)
    return torch.where(magnitude > 0, images / magnitude, torch.zeros_like(images))


def _center_window(size: int, n: int, like: Tensor) -> Tensor:
    """Make a window `(size,)`: `n` values of a Hann window (not its zeros) around `size // 2`, zeros elsewhere."""
    n = min(n, size)
    window = torch.zeros(size, device=like.device)
    start = size // 2 - n // 2
    window[start : start + n] = torch.hann_window(n + 2, periodic=False, device=like.device)[1:-1]
    return window


def center_crop(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """Crop `(..., height, width)` to the central `shape`; equals fastMRI's `center_crop`.

    Raises:
        ValueError: `shape` is larger than the image or not positive.
    """
    height, width = image.shape[-2:]
    if not (0 < shape[0] <= height and 0 < shape[1] <= width):
        raise ValueError(f"cannot crop a {height} x {width} image to {shape[0]} x {shape[1]}")
    top, left = (height - shape[0]) // 2, (width - shape[1]) // 2
    return image[..., top : top + shape[0], left : left + shape[1]]


def center_fit(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """Crop `(..., height, width)` centrally where it is larger than `shape`, zero-pad evenly where it is smaller.

    Some fastMRI brain files are narrower than their reference image; padding puts each pixel where
    cropping the padded image back would find it.
    """
    height, width = image.shape[-2:]
    image = center_crop(image, (min(height, shape[0]), min(width, shape[1])))
    missing_h, missing_w = shape[0] - image.shape[-2], shape[1] - image.shape[-1]
    top, left = missing_h // 2, missing_w // 2
    return F.pad(image, (left, missing_w - left, top, missing_h - top))


# ---- noise of the coils: its covariance, and the mixing of coils after which it is white


_PER_COIL = 10  # noise samples for each coil, at least
_SINGULAR = 1e-7  # smallest eigenvalue of a correlation matrix


def noise_covariance(noise: Tensor) -> Tensor:
    """Covariance `E[n n^H]` of the coils, complex128 `(..., coils, coils)`, of samples that hold noise alone.

    Equals the covariance that BART's `whiten` gives, but for its factor (it divides by one sample less, numpy's
    `cov` takes away the mean, which noise has not).

    Args:
        noise: Complex `(..., coils, samples)`.

    Raises:
        InputError: Fewer than 10 samples for each coil.
    """
    n_coils, n_samples = noise.shape[-2:]
    if n_samples < _PER_COIL * n_coils:
        raise InputError(
            f"the noise of {n_coils} coils needs at least {_PER_COIL * n_coils} samples, and there are {n_samples}"
        )
    values = noise.to(torch.complex128)
    return values @ values.mH / n_samples


def whitening_matrix(covariance: Tensor) -> Tensor:
    """Return `W`, complex128 `(..., coils, coils)`, lower triangular, with `W C W^H = 1`: after `W` noise is white.

    The inverse of the Cholesky factor of the covariance `C` (Pruessmann et al., MRM 2001).

    Args:
        covariance: Complex `(..., coils, coils)`, Hermitian and positive definite; of any units.

    Raises:
        InputError: It is not so.
    """
    covariance = covariance.to(torch.complex128)
    variance = covariance.diagonal(dim1=-2, dim2=-1).real
    if not bool(torch.isfinite(torch.view_as_real(covariance)).all()) or not bool((variance > 0).all()):
        raise InputError(
            "the noise covariance holds coils without noise, or values that are not finite; measure it anew"
        )
    unit = variance.rsqrt()  # coils may differ by orders of magnitude
    correlation = covariance * unit[..., None, :] * unit[..., :, None]
    if not torch.allclose(correlation, correlation.mH, atol=1e-4):
        raise InputError("the noise covariance is not Hermitian; measure it anew")
    factor, failed = torch.linalg.cholesky_ex(correlation)
    smallest = factor.diagonal(dim1=-2, dim2=-1).real.square().amin()
    if bool(failed.any()) or not float(smallest) > _SINGULAR:
        raise InputError(
            "the noise covariance is singular, as where one coil is a mixture of others, or there are too few samples; "
            "measure it anew"
        )
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device).expand_as(factor)
    return torch.linalg.solve_triangular(factor, identity, upper=False) * unit[..., None, :]


def mix_coils(matrix: Tensor, kspace: Tensor) -> Tensor:
    """Mix coils: `(..., coils, coils)` times `(..., coils, height, width)`, of the type of the latter.

    With a whitening matrix these are the virtual coils of Pruessmann et al. (2001), which have the same white noise.
    """
    return torch.einsum("...ij,...jhw->...ihw", matrix.to(kspace.dtype), kspace)
