"""The Fourier transform against fastMRI and numpy, and its defining properties."""

import fastmri
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.physics import fft2c, ifft2c

SHAPES = [(6, 8), (7, 9), (8, 7), (1, 5), (1, 1), (3, 6, 5), (2, 3, 4, 16, 15)]
PAIRS = [(fft2c, fastmri.fft2c, np.fft.fft2), (ifft2c, fastmri.ifft2c, np.fft.ifft2)]


def random_complex(shape, dtype, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("ours", "reference", "_"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_equals_fastmri_bit_for_bit(ours, reference, _, shape, dtype):
    data = random_complex(shape, dtype)
    expected = torch.view_as_complex(reference(torch.view_as_real(data)))
    assert torch.equal(ours(data), expected)


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 3)])
@pytest.mark.parametrize("transform", [fft2c, ifft2c])
def test_nothing_is_transformed_to_nothing(transform, shape):
    data = random_complex(shape, torch.complex64)
    assert transform(data).shape == shape
    assert transform(data).dtype == torch.complex64


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("ours", "_", "numpy_transform"), PAIRS)
def test_equals_numpy_in_double_precision(ours, _, numpy_transform, shape):
    data = random_complex(shape, torch.complex128)
    shifted = np.fft.ifftshift(data.numpy(), axes=(-2, -1))
    expected = np.fft.fftshift(numpy_transform(shifted, norm="ortho"), axes=(-2, -1))
    np.testing.assert_allclose(ours(data).numpy(), expected, rtol=1e-12, atol=1e-12)


sizes = st.integers(1, 24)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.integers(0, 2**31))
def test_unitary_and_adjoint(height, width, seed):
    image = random_complex((2, height, width), torch.complex128, seed)
    kspace = random_complex((2, height, width), torch.complex128, seed + 1)
    torch.testing.assert_close(ifft2c(fft2c(image)), image)
    torch.testing.assert_close(fft2c(ifft2c(kspace)), kspace)
    torch.testing.assert_close(fft2c(image).norm(), image.norm())
    left = torch.vdot(kspace.flatten(), fft2c(image).flatten())
    right = torch.vdot(ifft2c(kspace).flatten(), image.flatten())
    torch.testing.assert_close(left, right)


@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 5), (6, 5)])
def test_a_constant_image_is_the_centre_sample(height, width):
    kspace = fft2c(torch.ones(height, width, dtype=torch.complex128))
    expected = torch.zeros_like(kspace)
    expected[height // 2, width // 2] = (height * width) ** 0.5
    torch.testing.assert_close(kspace, expected)


@pytest.mark.parametrize("transform", [fft2c, ifft2c])
def test_a_real_tensor_is_refused(transform):
    with pytest.raises(TypeError, match="view_as_complex"):
        transform(torch.zeros(4, 4, 2))
