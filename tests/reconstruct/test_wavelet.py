"""Wavelets: pywt's transform, orthogonality, BART's reconstruction, and compressed sensing's theorem."""

import h5py
import numpy as np
import pytest
import pywt
import torch
from bart_program import needs_bart, pics

from mrirecon.errors import InputError
from mrirecon.physics import fft2c, make_mask
from mrirecon.physics.espirit import espirit_smaps
from mrirecon.reconstruct.problem import Problem
from mrirecon.reconstruct.wavelet import Transform, Wavelet


def wavelet(weight, basis="db2", iterations=200, tolerance=0.0):
    return Wavelet(basis, lambda_=weight, iterations=iterations, tolerance=tolerance, maps="espirit", crop=0.0)


def random_image(shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.complex128)


@pytest.mark.parametrize("shape", [(64, 48), (65, 40), (16, 31)])
def test_by_reflection_it_equals_pywt(shape):
    image = random_image(shape)
    transform = Transform(shape, is_periodic=False)
    levels = transform.coefficients(image)
    expected = pywt.wavedec2(image.numpy(), "db2", mode="symmetric", level=transform.n_levels)
    for i, (horizontal, vertical, diagonal) in enumerate(reversed(expected[1:])):
        m, n = transform.sizes[i + 1]
        parts = ((levels[i][m:, :n], horizontal), (levels[i][:m, n:], vertical), (levels[i][m:, n:], diagonal))
        for ours, theirs in parts:
            np.testing.assert_allclose(ours, theirs, atol=1e-12)
    m, n = transform.sizes[-1]
    np.testing.assert_allclose(levels[-1][:m, :n], expected[0], atol=1e-12)
    torch.testing.assert_close(transform.image(levels), image)


@pytest.mark.parametrize("shape", [(64, 48), (65, 40), (16, 31)])
def test_the_periodic_one_is_orthogonal(shape):
    image = random_image(shape)
    transform = Transform(shape, is_periodic=True)
    levels = transform.coefficients(image)
    torch.testing.assert_close(sum(level.abs().square().sum() for level in levels), image.abs().square().sum())
    torch.testing.assert_close(transform.image(levels), image)


def test_shrinking_is_soft_thresholding():
    image = random_image((1, 32, 32))
    transform = Transform((32, 32), is_periodic=True)
    shrunk, size = transform.shrunk(image, 0.5)
    before, after = transform.coefficients(image), transform.coefficients(shrunk)
    for b, a in zip(before, after, strict=True):
        torch.testing.assert_close(a.abs(), (b.abs() - 0.5).clamp(min=0))
    torch.testing.assert_close(size, sum(a.abs().sum((-2, -1)) for a in after))


@pytest.mark.realdata
@needs_bart
def test_it_equals_bart(shared_data, tmp_path):
    weight = 0.01
    with h5py.File(shared_data / "multicoil" / "brain_t1_7ch.h5") as file:
        full = torch.from_numpy(file["kspace"][0])
    mask = make_mask("random", full.shape[-1], 0.08, 4, 1)
    kspace = torch.where(mask.columns, full, 0)
    smaps = espirit_smaps(kspace, mask.n_center)
    problem = Problem.of_kspace(kspace[None], mask.columns[None], smaps[None], tuple(full.shape[-2:]))
    theirs = pics(tmp_path, problem, kspace, smaps, mask.columns, f"W:3:0:{weight} -n")
    inside = (smaps.abs().sum(0) > 0).numpy()  # elsewhere nothing was measured, and only the transform decides
    found, theirs = wavelet(weight, "db2-symmetric", 100).solve(problem).image[0].numpy() * inside, theirs * inside
    assert np.square(abs(found - theirs)).sum() / np.square(abs(theirs)).sum() < 1e-3


def sparse_rows(n_rows, width, n_points):
    """An image with a few bright pixels in each row, complex, at random."""
    generator = np.random.default_rng(0)
    image = np.zeros((n_rows, width), complex)
    for row in image:
        row[generator.choice(width, n_points, replace=False)] = np.exp(2j * np.pi * generator.random(n_points))
    return torch.from_numpy(image)


def recovery_error(image, mask, weight=1e-5, iterations=6000):
    kspace = torch.where(mask, fft2c(image), 0)[None, None]
    ones = torch.ones(1, 1, *image.shape, dtype=image.dtype)
    problem = Problem.of_kspace(kspace, mask[None], ones, tuple(image.shape))
    found = wavelet(weight, "identity", iterations, 1e-9).solve(problem).image * problem.scale
    return float((found - image).abs().square().sum() / image.abs().square().sum())


def test_sparse_images_are_recovered_from_random_columns_and_not_from_equispaced_ones():
    """Candes, Romberg and Tao 2006; both masks keep a quarter of the columns."""
    width = 96
    image = sparse_rows(16, width, 3)
    chance = torch.zeros(width, dtype=torch.bool)
    chance[torch.randperm(width, generator=torch.Generator().manual_seed(0))[: width // 4]] = True
    regular = torch.zeros(width, dtype=torch.bool)
    regular[::4] = True
    assert recovery_error(image, chance) < 1e-6
    assert recovery_error(image, regular) > 0.1


def test_an_unknown_basis_is_refused():
    with pytest.raises(InputError, match=r"unknown basis 'haar'.*db2"):
        wavelet(0.1, "haar")
