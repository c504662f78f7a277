"""Noise of the coils: its covariance, and the mixing of coils after which it is white."""

import torch
from torch import Tensor

from mrirecon.errors import InputError

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
    """Mix coils: `(..., coils, coils)` times `(..., coils, height, width)`, of the type of the latter."""
    return torch.einsum("...ij,...jhw->...ihw", matrix.to(kspace.dtype), kspace)
