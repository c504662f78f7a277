"""SSIM, PSNR and NMSE against fastMRI and scikit-image, and their properties."""

import math

import h5py
import numpy as np
import pytest
import torch
from fastmri import evaluate as fastmri_evaluate
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mrirecon.errors import InputError
from mrirecon.evaluation import combine_slices, nmse, psnr, score_slice, ssim

METRICS = {"ssim": ssim, "psnr": psnr, "nmse": nmse}


def noise(shape=(3, 40, 33), seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    target = rng.random(shape)
    return target.astype(dtype), (target + 0.2 * rng.standard_normal(shape)).astype(dtype)


def structured(dtype=np.float64):
    """Discs with edges on zero background, blurred: flat regions are where the variances cancel."""
    y, x = np.mgrid[-1:1:50j, -1:1:46j]
    target = np.stack([(np.hypot(y, x) < r) * (1 + 0.3 * np.cos(9 * x)) for r in (0.4, 0.6, 0.8)])
    return target.astype(dtype), ((target + np.roll(target, 2, -1)) / 2).astype(dtype)


PAIRS = {
    "noise": noise(),
    "noise float32": noise(dtype=np.float32),
    "structured": structured(),
    "structured float32": structured(np.float32),
    "smallest": noise((2, 7, 7)),
    "offset": tuple(1000 + values for values in noise()),
    "negative": tuple(values - 0.5 for values in noise()),
}


def scikit_image(target, image, data_range):
    """The definitions in double precision, by scikit-image and numpy."""
    target, image = target.astype(np.float64), image.astype(np.float64)
    slices = [structural_similarity(t, r, data_range=data_range) for t, r in zip(target, image, strict=True)]
    return {
        "ssim": np.mean(slices),
        "psnr": peak_signal_noise_ratio(target, image, data_range=data_range),
        "nmse": np.linalg.norm(target - image) ** 2 / np.linalg.norm(target) ** 2,
    }


@pytest.mark.parametrize("kind", PAIRS)
def test_equals_scikit_image_in_double_precision(kind):
    target, image = PAIRS[kind]
    data_range = float(target.max())
    for name, expected in scikit_image(target, image, data_range).items():
        assert METRICS[name](target, image, data_range) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("name", METRICS)
def test_equals_fastmri(kind, name):
    target, image = PAIRS[kind]
    expected = getattr(fastmri_evaluate, name)(target, image, *([target.max()] if name != "nmse" else []))
    assert METRICS[name](target, image, float(target.max())) == pytest.approx(float(expected.item()), rel=1e-5)


@pytest.mark.realdata
def test_equals_fastmri_and_scikit_image_on_real_volumes(shared_data):
    """Their scales differ by nine orders of magnitude."""
    files = sorted(shared_data.glob("*coil/*.h5"))
    assert files
    for path in files:
        with h5py.File(path) as file:
            target = file["reconstruction_rss"][()]
        image = (target + np.roll(target, 1, -1)) / 2
        data_range = float(target.max())
        expected = scikit_image(target, image, data_range)
        for name, metric in METRICS.items():
            assert metric(target, image, data_range) == pytest.approx(expected[name], rel=1e-10, abs=1e-10)
        assert ssim(target, image, data_range) == pytest.approx(fastmri_evaluate.ssim(target, image).item(), abs=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_tensors_arrays_and_single_slices_are_alike(name):
    target, image = noise()
    metric = METRICS[name]
    assert metric(torch.from_numpy(target), torch.from_numpy(image), 1.0) == metric(target, image, 1.0)
    assert metric(target[0], image[0], 1.0) == metric(target[:1], image[:1], 1.0)
    assert metric(target[:, ::-1], image[:, ::-1], 1.0) == pytest.approx(metric(target, image, 1.0), rel=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_slices_does_not_matter(name):
    target, image = noise((5, 20, 20))
    order = [3, 0, 4, 1, 2]
    shuffled = METRICS[name](target[order], image[order], 1.0)
    assert shuffled == pytest.approx(METRICS[name](target, image, 1.0), rel=1e-13)


@settings(max_examples=25, deadline=None)
@given(exponent=st.integers(-100, 100), seed=st.integers(0, 99))
def test_scaling_by_a_power_of_two_changes_no_bit(exponent, seed):
    target, image = noise((2, 12, 9), seed)
    scale = 2.0**exponent
    for metric in METRICS.values():
        assert metric(target * scale, image * scale, scale) == pytest.approx(metric(target, image, 1.0), rel=1e-14)
    assert ssim(target * scale, image * scale, scale) == ssim(target, image, 1.0)
    assert nmse(target * scale, image * scale) == nmse(target, image)


@pytest.mark.parametrize("scale", [1e-8, 1e-5, 1e8])
def test_single_precision_at_any_scale_scores_alike(scale):
    target, image = noise()
    expected = scikit_image(target, image, 1.0)
    for name, metric in METRICS.items():
        scaled = (target * scale).astype(np.float32), (image * scale).astype(np.float32)
        assert metric(*scaled, scale) == pytest.approx(expected[name], rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999))
def test_ssim_is_symmetric_and_at_most_one(seed):
    target, image = noise((1, 10, 11), seed)
    assert ssim(target, image, 1.0) == ssim(image, target, 1.0) < 1
    assert ssim(target, target, 1.0) == pytest.approx(1, abs=1e-14)


def test_known_values():
    target = np.ones((2, 8, 8))
    assert psnr(target, target * 0.9, 1.0) == pytest.approx(20)  # MSE .01
    assert nmse(target, target * 0.9) == pytest.approx(0.01)
    constant = (2 * 0.5 + 1e-4) / (1 + 0.25 + 1e-4)  # no variance: only the luminance term is left
    assert ssim(target, target * 0.5, 1.0) == pytest.approx(constant, rel=1e-13)


def test_what_has_no_value_is_nan_or_infinite_and_no_error():
    zeros, ones = np.zeros((1, 8, 8)), np.ones((1, 8, 8))
    assert psnr(ones, ones, 1.0) == math.inf
    assert nmse(ones, ones) == 0
    assert nmse(zeros, ones) == math.inf
    assert math.isnan(nmse(zeros, zeros))
    assert math.isnan(ssim(zeros, ones, 0.0))
    assert math.isnan(psnr(zeros, ones, 0.0))
    broken = ones * np.nan
    assert all(math.isnan(metric(ones, broken, 1.0)) for metric in METRICS.values())


def test_a_volume_is_scored_from_its_slices():
    target, image = noise((4, 20, 20))
    slices = [score_slice(t, r, 1.3) for t, r in zip(*map(torch.from_numpy, (target, image)), strict=True)]
    score = combine_slices(slices, 1.3)
    assert score.ssim == ssim(target, image, 1.3)
    assert score.psnr == pytest.approx(psnr(target, image, 1.3), rel=1e-14)
    assert score.nmse == pytest.approx(nmse(target, image), rel=1e-14)
    assert score.n_slices == 4


@pytest.mark.parametrize(
    ("target", "image", "data_range", "says"),
    [
        (np.ones((1, 6, 20)), np.ones((1, 6, 20)), 1.0, "6 x 20 pixels are too small"),
        (np.ones((1, 8, 9)), np.ones((1, 9, 8)), 1.0, "differ in shape"),
        (np.ones((8, 8)), np.ones((8, 8), complex), 1.0, "complex"),
        (np.ones((1, 1, 8, 8)), np.ones((1, 1, 8, 8)), 1.0, "slices, height, width"),
        (np.ones((0, 8, 8)), np.ones((0, 8, 8)), 1.0, "slices, height, width"),
        (np.ones((8, 8)), np.ones((8, 8)), -1.0, "data range -1.0"),
        (np.ones((8, 8)), np.ones((8, 8)), math.nan, "data range nan"),
    ],
)
def test_wrong_input_is_named(target, image, data_range, says):
    with pytest.raises(InputError, match=says):
        ssim(target, image, data_range)


def test_small_images_still_have_psnr_and_nmse():
    assert psnr(np.ones((1, 3, 3)), np.zeros((1, 3, 3)), 1.0) == 0
    assert nmse(np.ones((1, 3, 3)), np.zeros((1, 3, 3))) == 1
