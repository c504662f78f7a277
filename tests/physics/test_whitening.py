"""Noise covariance and whitening, against numpy, closed forms and BART."""

import numpy as np
import pytest
import torch
from bart_program import coils_last, needs_bart, run

from mrirecon.errors import InputError
from mrirecon.physics.coils import mix_coils, noise_covariance, whitening_matrix


def mixing(coils=5, seed=0):
    """A matrix that correlates white noise, coils of very different gains."""
    draw = np.random.default_rng(seed)
    gains = np.geomspace(1e-7, 1e-4, coils)
    matrix = draw.standard_normal((coils, coils)) + 1j * draw.standard_normal((coils, coils))
    return gains[:, None] * (matrix + 2 * np.eye(coils))


def noise(matrix, samples=20_000, seed=1):
    draw = np.random.default_rng(seed)
    white = draw.standard_normal((len(matrix), samples)) + 1j * draw.standard_normal((len(matrix), samples))
    return matrix @ (white / np.sqrt(2))


def test_the_covariance_is_numpys_without_its_mean():
    values = noise(mixing())
    expected = np.cov(values, bias=True) + np.outer(values.mean(1), values.mean(1).conj())
    np.testing.assert_allclose(noise_covariance(torch.from_numpy(values)).numpy(), expected, rtol=1e-10)


def test_noise_is_white_afterwards():
    matrix = mixing()
    whiten = whitening_matrix(torch.from_numpy(matrix @ matrix.conj().T))
    torch.testing.assert_close(
        whiten @ torch.from_numpy(matrix @ matrix.conj().T) @ whiten.mH, torch.eye(5) + 0j * whiten
    )
    kspace = torch.from_numpy(noise(matrix).reshape(5, 100, 200))
    after = noise_covariance(mix_coils(whiten, kspace).flatten(1))
    assert float((after - torch.eye(5)).abs().max()) < 0.05  # of 20,000 samples


@pytest.mark.parametrize("scale", [1e-12, 1, 1e12])
def test_any_unit_of_the_covariance_will_do(scale):
    covariance = torch.from_numpy(mixing() @ mixing().conj().T)
    torch.testing.assert_close(whitening_matrix(scale**2 * covariance) * scale, whitening_matrix(covariance))


@needs_bart
def test_it_is_what_bart_makes(tmp_path):
    values = noise(mixing() * 1e5).astype(np.complex64).reshape(5, 20_000, 1)  # it counts along the first axis
    kspace = noise(mixing(seed=3) * 1e5, 64, seed=4).reshape(5, 8, 8).astype(np.complex64)
    whitened = run(tmp_path, "whiten {kspace} {noise} {out}", kspace=coils_last(kspace), noise=coils_last(values))
    covariance = noise_covariance(torch.from_numpy(values).flatten(1)) * 20_000 / 19_999
    mine = mix_coils(whitening_matrix(covariance), torch.from_numpy(kspace)).numpy()
    np.testing.assert_allclose(mine, np.moveaxis(whitened, -1, 0), rtol=2e-3, atol=1e-3)


def spoiled(change):
    covariance = torch.from_numpy(mixing() @ mixing().conj().T)
    change(covariance)
    return covariance


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.__setitem__((2, 2), 0), "coils without noise"),
        (lambda c: c.__setitem__((0, 1), float("nan")), "not finite"),
        (lambda c: c.__setitem__((0, 1), c[0, 1] + (c[0, 0] * c[1, 1]).sqrt()), "not Hermitian"),
        (lambda c: c.__setitem__(slice(None), torch.ones(5, 5)), "singular"),
    ],
)
def test_what_is_no_covariance_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        whitening_matrix(spoiled(change))


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match="at least 50 samples, and there are 49"):
        noise_covariance(torch.zeros(5, 49, dtype=torch.complex64))
