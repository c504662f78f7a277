"""Methods on whitened coils: units, gain, where the noise comes from, and refusals."""

import h5py
import numpy as np
import pytest
import torch
from kspace_problems import SIZE, columns, kspace_of, maps_and_image, sample_of

from mrirecon.data.dataset import SliceDataset
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.physics import center_crop, fft2c, ifft2c, rss
from mrirecon.physics.coils import noise_covariance
from mrirecon.reconstruct.sense import Combined, ConjugateGradientSense
from mrirecon.reconstruct.tv import TotalVariation

GAINS = torch.tensor([1.0, 1.0, 1.0, 12.0])  # one coil is broken
FULL = torch.ones(SIZE[1], dtype=torch.bool)


ITERATIVE = {"lambda_": 0.01, "iterations": 50, "tolerance": 1e-4}
METHODS = {
    "combined": (Combined, {}),
    "sense": (ConjugateGradientSense, ITERATIVE),
    "tv": (TotalVariation, {**ITERATIVE, "solver": "admm", "isotropic": True}),
}


def method(name="combined", whiten="none"):
    kind, options = METHODS[name]
    return kind(maps="espirit", crop=0.0, whiten=whiten, **options)


def noisy(sd=0.02, height=SIZE[0]):
    """K-space of a known image, high as an oversampled readout, with noise that coils share; and its covariance."""
    maps, image = maps_and_image(dtype=torch.complex64)
    mixing = torch.diag(GAINS).to(torch.complex64)
    mixing[1, 0], mixing[2, 1] = 0.8, 0.6j
    generator = torch.Generator().manual_seed(5)
    white = torch.randn((4, height, SIZE[1]), dtype=torch.complex64, generator=generator)
    padding = (height - SIZE[0]) // 2
    images = torch.nn.functional.pad(maps * image, (0, 0, padding, padding))
    return fft2c(images) + sd * torch.einsum("ij,jhw->ihw", mixing, white), sd**2 * mixing @ mixing.mH, maps * image


@pytest.mark.parametrize("name", ["combined", "sense", "tv"])
def test_a_covariance_of_equal_coils_changes_nothing(name):
    maps, image = maps_and_image(dtype=torch.complex64)
    kspace = kspace_of(image, maps, columns(), noise=0.01)
    sample = sample_of(kspace, columns(), SIZE, noise_covariance=7e-9 * torch.eye(4, dtype=torch.complex64))
    plain, whitened = (method(name, whiten=kind)(sample) for kind in ("none", "stored"))
    torch.testing.assert_close(whitened, plain, rtol=1e-3, atol=1e-4)


def test_without_noise_the_image_is_the_target_whatever_the_covariance():
    kspace, covariance, coils = noisy(sd=0)
    _, covariance, _ = noisy()
    image = method(whiten="stored")(sample_of(kspace, FULL, SIZE, SIZE[1], noise_covariance=covariance))[0]
    inside = rss(coils) > 0.3
    torch.testing.assert_close(image[inside], rss(coils)[inside], rtol=0.02, atol=0.0)


@pytest.mark.parametrize("name", ["combined", "sense"])
def test_a_noisy_coil_spoils_less_once_coils_are_whitened(name):
    kspace, covariance, coils = noisy(sd=0.05)
    sample = sample_of(kspace, FULL, SIZE, SIZE[1], noise_covariance=covariance)
    errors = [float((method(name, whiten=kind)(sample)[0] - rss(coils)).square().sum()) for kind in ("none", "stored")]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("n_center", [4, SIZE[1]])
def test_the_noise_beside_the_image_is_that_of_the_file(n_center):
    """An image whose object ends inside of its rows; the covariance is known to the error of its samples.

    Where all columns are the centre, those away from the middle count.
    """
    kspace, covariance, _ = noisy(sd=0.05, height=8 * SIZE[0])
    stored, readout = (
        method(whiten=kind)(sample_of(kspace, FULL, SIZE, n_center, noise_covariance=covariance))[0]
        for kind in ("stored", "readout")
    )
    assert float((stored - readout).square().sum() / stored.square().sum()) < 1e-3


def test_without_rows_beside_the_image_there_is_no_noise_to_see():
    kspace, *_ = noisy()
    with pytest.raises(InputError, match=r"v.h5: the readout of 24 samples has too little beside the image of 24 rows"):
        method(whiten="readout")(sample_of(kspace, FULL, SIZE))


def test_what_is_not_stored_and_not_known():
    kspace, *_ = noisy()
    with pytest.raises(InputError, match="v.h5: there is no data set 'noise_covariance'"):
        method(whiten="stored")(sample_of(kspace, FULL, SIZE))
    with pytest.raises(InputError, match="unknown whitening 'read'"):
        method(whiten="read")


@pytest.mark.parametrize(
    ("covariance", "words"),
    [
        (torch.ones(4, 4), "is singular"),
        (-torch.eye(4), "holds coils without noise"),
        (torch.eye(4) * torch.nan, "not finite"),
        (torch.eye(4) + torch.ones(4, 4).triu(), "is not Hermitian"),
    ],
)
def test_a_covariance_that_is_none_is_said_with_its_file(covariance, words):
    kspace, *_ = noisy()
    with pytest.raises(InputError, match=f"^v.h5: the noise covariance .*{words}"):
        method(whiten="stored")(sample_of(kspace, FULL, SIZE, noise_covariance=covariance))


@pytest.fixture
def path(tmp_path):
    kspace, *_ = noisy()
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["kspace"] = kspace[None].numpy()
        file["reconstruction_rss"] = rss(ifft2c(kspace))[None].numpy()
    return tmp_path / "v.h5"


@pytest.mark.parametrize("kind", [np.complex64, np.complex128, np.float64])
def test_a_covariance_is_read_from_the_file(path, kind):
    stored = (np.eye(4) + 0.1).astype(kind)
    with h5py.File(path, "a") as file:
        file["noise_covariance"] = stored
    sample = SliceDataset([Volume(path)], needs=("kspace", "mask", "noise"))[0]
    assert sample.noise_covariance.dtype == torch.complex64
    np.testing.assert_allclose(sample.noise_covariance.numpy(), stored, rtol=1e-6)


def test_a_file_without_one_has_zeros(path):
    assert not SliceDataset([Volume(path)], needs=("noise",))[0].noise_covariance.any()


def test_one_of_other_coils_is_refused(path):
    with h5py.File(path, "a") as file:
        file["noise_covariance"] = np.eye(3)
    with pytest.raises(
        InputError, match=r"v.h5: 'noise_covariance' is float64 of shape \(3, 3\); it must be .*\(4, 4\)"
    ):
        SliceDataset([Volume(path)], needs=("noise",))[0]


def test_the_estimate_is_the_covariance_of_the_rows():
    """In closed form: the orthonormal transform along the readout leaves the covariance as it is."""
    kspace, covariance, _ = noisy(sd=0.1, height=512)
    rows = torch.fft.ifft(kspace, dim=-2, norm="ortho")
    found = noise_covariance(rows[:, 200:300].flatten(1))
    assert float((found - covariance).abs().max() / covariance.abs().max()) < 0.1
    assert center_crop(kspace, SIZE).shape[-2:] == SIZE
