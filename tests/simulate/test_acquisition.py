"""K-space as the central part of a finer transform, noise as asked for, images as fastMRI makes them."""

import fastmri
import numpy as np
import pytest
import torch
from scipy.special import j1

from mrirecon.physics import center_crop, ifft2c, rss
from mrirecon.simulate.head.painting import ellipsoid, inside
from mrirecon.simulate.plane import Plane, rotated
from mrirecon.simulate.scanner.acquisition import central_kspace, complex_noise, images, neighbour_correlation


def _numpy_central(image, shape):
    """The definition, by numpy alone."""
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image)))
    top, left = (fine // 2 - coarse // 2 for fine, coarse in zip(image.shape, shape, strict=True))
    kept = spectrum[top : top + shape[0], left : left + shape[1]]
    return kept * np.sqrt(shape[0] * shape[1]) / image.size


@pytest.mark.parametrize("shape", [(16, 12), (17, 12), (17, 13), (31, 20)])
@pytest.mark.parametrize("finer", [2, 3])
def test_it_is_the_centre_of_the_fine_transform(rng, shape, finer):
    fine_shape = (shape[0] * finer, shape[1] * finer)
    image = np.zeros(fine_shape, dtype=np.complex64)
    part = rng.standard_normal((7, 11)) + 1j * rng.standard_normal((7, 11))
    image[5:12, 4:15] = part
    expected = _numpy_central(image, shape)
    kspace = central_kspace(part, (5, 4), fine_shape, shape)
    np.testing.assert_allclose(kspace, expected, atol=2e-6 * np.abs(expected).max())


def _ellipse(shape, pixel, radii, finer):
    plane = Plane.centered(np.zeros(3), *rotated("axial"), pixel / finer, (shape[0] * finer, shape[1] * finer))
    distance = ellipsoid(plane.points(), (0, 0, 0), (radii[1], radii[0], 1e6))
    return inside(distance, pixel / finer)


@pytest.mark.parametrize("shape", [(64, 48), (65, 49)])
def test_an_ellipse_has_its_analytic_transform(shape):
    pixel, radii = 3.0, (70.0, 45.0)  # along rows and columns
    image = _ellipse(shape, pixel, radii, 4)
    kspace = central_kspace(image, (0, 0), image.shape, shape)
    fy, fx = (((np.arange(n) - n // 2) / (n * pixel)) for n in shape)
    rho = np.hypot(fy[:, None] * radii[0], fx * radii[1])
    area = np.pi * radii[0] * radii[1]
    analytic = area * np.where(rho > 0, j1(2 * np.pi * rho) / np.where(rho > 0, np.pi * rho, 1), 1)
    analytic = analytic / pixel**2 / np.sqrt(shape[0] * shape[1])
    assert np.linalg.norm(kspace - analytic) < 4e-3 * np.linalg.norm(analytic)


def test_gibbs_ringing_and_partial_volume_appear():
    shape = (64, 64)
    image = _ellipse(shape, 3.0, (70.0, 70.0), 4)
    picture = images(central_kspace(image, (0, 0), image.shape, shape)[None, None], shape)[0]
    assert 1.03 < picture[32].max() < 1.2  # the overshoot of a cut-off Fourier series is 9 %
    profile = picture[32, 32:]
    signs = np.sign(np.diff(profile[:20]))
    assert (signs[1:] != signs[:-1]).sum() >= 5
    same_grid = _ellipse(shape, 3.0, (70.0, 70.0), 1)
    assert np.abs(picture - same_grid).max() > 0.05


@pytest.mark.parametrize("shapes", [((3, 4, 20, 14), (10, 14)), ((2, 1, 21, 13), (11, 13)), ((1, 5, 16, 16), (16, 16))])
@pytest.mark.parametrize("scale", [1.0, 1e-24, 1e18])
def test_images_are_those_of_physics_and_of_fastmri(rng, shapes, scale):
    kspace = (rng.standard_normal(shapes[0]) + 1j * rng.standard_normal(shapes[0])).astype(np.complex64)
    kspace *= np.float32(scale)
    ours = images(kspace, shapes[1])
    tensor = torch.from_numpy(kspace)
    physics = rss(center_crop(ifft2c(tensor), shapes[1])).numpy()
    np.testing.assert_allclose(ours, physics, rtol=0, atol=1e-6 * physics.max())  # FFT errors scale with the largest
    if scale == 1.0:
        theirs = fastmri.rss_complex(fastmri.ifft2c(torch.view_as_real(tensor)), dim=1)
        np.testing.assert_allclose(ours, center_crop(theirs, shapes[1]).numpy(), rtol=0, atol=1e-6 * physics.max())


def test_an_empty_slice_gives_an_empty_image():
    assert (images(np.zeros((1, 2, 8, 8), dtype=np.complex64), (8, 8)) == 0).all()


def test_noise_is_white_circular_and_of_the_given_size(rng):
    noise = complex_noise(rng, (4, 3, 128, 128), 0.25)
    assert noise.dtype == np.complex64
    assert noise.real.std() == pytest.approx(0.25, rel=0.01)
    assert noise.imag.std() == pytest.approx(0.25, rel=0.01)
    assert abs((noise.real * noise.imag).mean()) < 0.01 * 0.25**2
    for axis in (-1, -2):
        neighbours = (noise * np.roll(noise, 1, axis=axis).conj()).mean()
        assert abs(neighbours) < 0.01 * (np.abs(noise) ** 2).mean()


@pytest.mark.parametrize("correlation", [0.3, 0.9])
def test_coils_correlate_as_asked(rng, correlation):
    noise = complex_noise(rng, (4, 4, 96, 96), 2.0, neighbour_correlation(4, correlation))
    flat = np.moveaxis(noise, 1, 0).reshape(4, -1)
    covariance = flat @ flat.conj().T / flat.shape[1] / (2 * 2.0**2)
    expected = [[correlation ** abs(i - j) for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(covariance, expected, atol=0.02)


def test_without_correlation_coils_are_independent(rng):
    np.testing.assert_array_equal(neighbour_correlation(5, 0.0), np.eye(5))
