"""The centred orthonormal Fourier transform between image and k-space, on `(..., height, width)`.

The origin of both is at index `n // 2` of each axis, and both have equal energy (Parseval): `F^H F = 1`. fastMRI's and
BART's convention: images are `ifft2c` of k-space."""

from collections.abc import Callable

import torch
from torch import Tensor

_AXES = (-2, -1)


def fft2c(image: Tensor) -> Tensor:
    """Transform a complex image `(..., height, width)` to k-space by a centred orthonormal 2-D FFT.

    Equals `fastmri.fft2c` (bit for bit, without its real view) and, in double precision, numpy's
    `fftshift(fft2(ifftshift(image), norm="ortho"))`. Its adjoint and inverse is `ifft2c`.

    Raises:
        TypeError: `image` is not complex.
    """
    _require_complex(image, "fft2c")
    return _centred(torch.fft.fft2, image)


def ifft2c(kspace: Tensor) -> Tensor:
    """Transform complex k-space `(..., height, width)` to the image by a centred orthonormal inverse 2-D FFT.

    The adjoint and inverse of `fft2c`. Equals `fastmri.ifft2c` (bit for bit, without its real view).

    Raises:
        TypeError: `kspace` is not complex.
    """
    _require_complex(kspace, "ifft2c")
    return _centred(torch.fft.ifft2, kspace)


def _centred(transform: Callable[..., Tensor], data: Tensor) -> Tensor:
    if data.numel() == 0:  # an error in some builds of torch (2.14 with MKL)
        return data.clone()
    return torch.fft.fftshift(transform(torch.fft.ifftshift(data, dim=_AXES), norm="ortho"), dim=_AXES)


def _require_complex(data: Tensor, name: str) -> None:
    if not data.is_complex():
        raise TypeError(
            f"{name} needs a native complex tensor, got {data.dtype} of shape {tuple(data.shape)}; "
            "make one of a (..., 2) real view with torch.view_as_complex"
        )
