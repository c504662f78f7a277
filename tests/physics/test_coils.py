"""Coil combination and crops against fastMRI, and their properties."""

import fastmri
import pytest
import torch
from fastmri.data.transforms import complex_center_crop
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.physics import center_crop, center_fit, combine_coils, expand_coils, rss


def random_complex(*shape, seed=0):
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(4, 6, 5), (1, 6, 5), (2, 3, 4, 7, 8)])
def test_rss_equals_fastmri(shape):
    images = random_complex(*shape)
    expected = fastmri.rss_complex(torch.view_as_real(images), dim=images.ndim - 3)
    torch.testing.assert_close(rss(images), expected, rtol=1e-13, atol=0)
    single = images.to(torch.complex64)
    torch.testing.assert_close(rss(single).double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e-24, 1e-12, 1.0, 1e12, 1e24])
def test_rss_keeps_single_precision_at_any_scale(scale):
    images = random_complex(8, 6, 5) * scale
    torch.testing.assert_close(rss(images.to(torch.complex64)).double(), rss(images), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-24, 1.0, 1e24])
def test_rss_has_a_finite_gradient(scale):
    images = (random_complex(3, 4, 4) * scale).to(torch.complex64)
    images[:, 0, 0] = 0
    images.requires_grad_()
    rss(images).sum().backward()
    assert torch.isfinite(torch.view_as_real(images.grad)).all()


def test_gradient_of_rss_is_the_unit_vector_over_coils():
    images = random_complex(3, 4, 4).requires_grad_()
    rss(images).sum().backward()
    torch.testing.assert_close(images.grad, images.detach() / rss(images.detach()))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_combine_is_the_adjoint_of_expand(coils, height, width, seed):
    smaps = random_complex(2, coils, height, width, seed=seed)
    image = random_complex(2, height, width, seed=seed + 1)
    images = random_complex(2, coils, height, width, seed=seed + 2)
    left = torch.vdot(images.flatten(), expand_coils(image, smaps).flatten())
    right = torch.vdot(combine_coils(images, smaps).flatten(), image.flatten())
    torch.testing.assert_close(left, right)


def test_rss_of_expanded_unit_maps_is_the_magnitude():
    smaps = random_complex(5, 8, 8)
    smaps = smaps / rss(smaps)
    image = random_complex(8, 8, seed=1)
    torch.testing.assert_close(rss(expand_coils(image, smaps)), image.abs())
    torch.testing.assert_close(combine_coils(expand_coils(image, smaps), smaps), image)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_center_crop_equals_fastmri(data):
    height, width = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    shape = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    image = random_complex(2, 3, height, width)
    expected = torch.view_as_complex(complex_center_crop(torch.view_as_real(image), shape).contiguous())
    assert torch.equal(center_crop(image, shape), expected)


@pytest.mark.parametrize("shape", [(5, 4), (4, 5), (0, 4), (4, -1)])
def test_center_crop_refuses_what_it_cannot_cut(shape):
    with pytest.raises(ValueError, match="cannot crop"):
        center_crop(torch.zeros(4, 4), shape)


@settings(max_examples=50, deadline=None)
@given(*[st.integers(1, 16)] * 4)
def test_center_fit_is_undone_by_its_inverse(height, width, fit_height, fit_width):
    image = random_complex(2, height, width)
    fitted = center_fit(image, (fit_height, fit_width))
    assert fitted.shape == (2, fit_height, fit_width)
    common = min(height, fit_height), min(width, fit_width)
    if (fit_height, fit_width) == common or common == (height, width):
        assert torch.equal(center_crop(fitted, common), center_crop(image, common))
    torch.testing.assert_close(fitted.norm(), center_crop(image, common).norm())
