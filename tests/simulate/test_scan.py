"""Whole volumes: SNR, oversampling, coils, phase, matrix sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mrirecon.config import SimulateConfig
from mrirecon.errors import InputError
from mrirecon.physics import center_crop, ifft2c, rss
from mrirecon.simulate.head.painting import Picture, ellipsoid, inside
from mrirecon.simulate.plane import Plane, rotated
from mrirecon.simulate.scanner.acquisition import scan
from mrirecon.simulate.scanner.geometry import Geometry, Stack
from mrirecon.workflows.simulate import simulate_volume

SMALL = SimulateConfig(output="unused", matrix=[48, 40], slices=2, coils=4)
RADII = np.array([70.0, 85.0, 75.0])


class Ball:
    """A uniform ellipsoid: everything about it is known."""

    fat_phase, contrast_name = 0.0, "BALL"
    box = (-RADII, RADII)
    reach = (-RADII - 4, RADII + 4)

    def render(self, plane, thickness_mm):
        cover = inside(ellipsoid(plane.points(), (0, 0, 0), RADII), plane.spacing_mm)
        return Picture(cover.copy(), np.zeros_like(cover), cover)


def _stack(matrix=(48, 40), oversampling=2.0, pixel=4.2, finer=4):
    shape = Geometry("axial", matrix, oversampling, 1, 0.0).encoded_matrix
    row, column = rotated("axial")
    fine = (shape[0] * finer, shape[1] * finer)
    planes = tuple(Plane.centered(np.array([0, 0, z]), row, column, pixel / finer, fine) for z in (-20.0, 10.0))
    return Stack(planes, matrix, shape, finer, pixel, 3.0, 30.0)


def _scan_ball(seed=1, stack=None, **changes):
    return scan(Ball(), stack or _stack(), replace(SMALL, **changes), np.random.default_rng(seed))


@pytest.mark.parametrize("coils", [1, 2, 8, 32])
@pytest.mark.parametrize("snr", [8.0, 30.0])
def test_the_snr_is_as_defined(coils, snr):
    noisy, clean = _scan_ball(coils=coils, snr=snr), _scan_ball(coils=coils, snr=0)
    noise = noisy.kspace - clean.kspace
    image_noise = np.asarray(ifft2c(torch.from_numpy(noise)))
    sd = image_noise.real.std()
    signal = noisy.ground_truth[noisy.object_mask].mean()
    assert signal / sd == pytest.approx(snr, rel=0.02)
    assert signal / noisy.noise_sd == pytest.approx(snr, rel=1e-5)
    np.testing.assert_array_equal(noisy.ground_truth, clean.reconstruction_rss)
    one_coil = noise[:, -1].real.std()
    assert one_coil == pytest.approx(noisy.noise_sd, rel=0.04)


def test_a_range_of_snr_is_drawn_per_volume():
    ratios = []
    for seed in range(6):
        volume = _scan_ball(seed, snr_range=[10.0, 40.0], coils=2)
        ratios.append(volume.ground_truth[volume.object_mask].mean() / volume.noise_sd)
    assert 10 <= min(ratios) < max(ratios) - 3 <= 37


def test_noise_correlation_reaches_the_k_space():
    noise = _scan_ball(noise_correlation=0.6, coils=3).kspace - _scan_ball(snr=0, coils=3).kspace
    flat = np.moveaxis(noise, 1, 0).reshape(3, -1)
    np.testing.assert_allclose(np.abs(np.corrcoef(flat)), [[1, 0.6, 0.36], [0.6, 1, 0.6], [0.36, 0.6, 1]], atol=0.04)


def test_the_object_mask_is_the_object():
    mask = _scan_ball().object_mask
    points = _stack(finer=1).planes[1].points()[:, 24:72]
    expected = ellipsoid(points, (0, 0, 0), RADII) < 0
    assert (mask[1] != expected).mean() < 0.03


def test_images_come_from_the_noisy_k_space():
    volume = _scan_ball()
    expected = rss(center_crop(ifft2c(torch.from_numpy(volume.kspace)), (48, 40))).numpy()
    error = np.linalg.norm(volume.reconstruction_rss - expected) / np.linalg.norm(expected)
    assert error < 1e-6
    assert not np.array_equal(volume.reconstruction_rss, volume.ground_truth)


def test_oversampling_adds_samples_between_and_field_of_view_around():
    """Every second sample of twofold oversampling is the k-space without it, and the crop is its image."""
    twice, once = (_scan_ball(3, _stack(oversampling=o), snr=0, coils=3) for o in (2.0, 1.0))
    assert twice.kspace.shape == (2, 3, 96, 40)
    assert once.kspace.shape == (2, 3, 48, 40)
    error = np.linalg.norm(twice.kspace[:, :, ::2] * np.sqrt(2) - once.kspace) / np.linalg.norm(once.kspace)
    assert error < 1e-5
    difference = twice.reconstruction_rss - once.reconstruction_rss
    assert np.linalg.norm(difference) < 0.02 * np.linalg.norm(once.reconstruction_rss)  # ringing folds in


def test_the_object_phase_is_smooth_and_not_constant():
    volume = _scan_ball(snr=0, coils=1)
    image = np.asarray(center_crop(ifft2c(torch.from_numpy(volume.kspace)), (48, 40)))[0, 0]
    core = image[14:-14, 12:-12]
    steps = np.abs(np.angle(core[1:] * core[:-1].conj()))
    assert steps.max() < 0.6  # rad per pixel of 4.2 mm
    assert np.abs(np.angle(core * core.mean().conj())).max() > 0.15
    flat = np.asarray(ifft2c(torch.from_numpy(_scan_ball(snr=0, coils=1, phase=False).kspace)))[0, 0]
    inner = flat[40:56, 14:26]
    assert np.abs(np.angle(inner * inner.mean().conj())).max() < 0.02


def test_one_coil_is_shaded_by_the_object_alone():
    """A uniform coil leaves only the smooth transmit shading."""
    image = _scan_ball(snr=0, coils=1).reconstruction_rss[1][14:-14, 12:-12]
    assert image.std() / image.mean() < 0.2
    several = _scan_ball(snr=0, coils=8).reconstruction_rss[1][14:-14, 12:-12]
    assert several.std() / several.mean() > 0.02


@pytest.mark.parametrize("coils", [1, 2, 7, 32])
@pytest.mark.parametrize("matrix", [[32, 32], [33, 27], [24, 41]])
def test_any_number_of_coils_and_any_matrix(coils, matrix):
    config = replace(SMALL, coils=coils, matrix=matrix, slices=1)
    volume = simulate_volume(config, "train", 0)
    height, width = matrix
    assert volume.kspace.shape[:2] == (1, coils)
    assert volume.kspace.shape[2] == pytest.approx(2 * height, abs=1)
    assert volume.kspace.shape[3] == width
    assert volume.reconstruction_rss.shape == volume.ground_truth.shape == (1, height, width)
    assert np.isfinite(volume.kspace).all()
    assert volume.object_mask.mean() > 0.1
    assert volume.header.crop_shape == (height, width)
    assert volume.header.acquired(width) == slice(0, width)


def test_a_fine_object_differs_from_one_on_the_image_grid():
    """The inverse crime would leave no trace of a finer object; ringing outside the head shows it."""
    volume = simulate_volume(replace(SMALL, snr=0, coils=1, matrix=[64, 64]), "train", 4)
    outside = volume.ground_truth[~volume.object_mask]
    assert outside.max() > 0.01 * volume.ground_truth.max()


def test_volumes_differ_and_are_reproduced():
    one, again = simulate_volume(SMALL, "train", 0), simulate_volume(SMALL, "train", 0)
    np.testing.assert_array_equal(one.kspace, again.kspace)
    for split, index, seed in (("train", 1, 0), ("val", 0, 0), ("train", 0, 1)):
        other = simulate_volume(replace(SMALL, seed=seed), split, index)
        a, b = one.ground_truth[0].ravel(), other.ground_truth[0].ravel()
        assert np.corrcoef(a, b)[0, 1] < 0.97


@pytest.mark.parametrize(
    "wrong",
    [
        {"coils": 0},
        {"coils": 33},
        {"matrix": [4, 64]},
        {"matrix": [64]},
        {"oversampling": 0.5},
        {"snr": -1.0},
        {"snr": float("nan")},
        {"snr_range": [5.0]},
        {"snr_range": [9.0, 5.0]},
        {"noise_correlation": 1.0},
        {"slices": 0},
        {"seed": -1},
        {"train": -1},
        {"train": 0, "val": 0, "test": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match=f"^{next(iter(wrong))} is .* must be"):
        simulate_volume(replace(SMALL, **wrong), "train", 0)


@pytest.mark.parametrize(("key", "value", "meant"), [("axis", "axal", "axial"), ("contrast", "flair", "FLAIR")])
def test_unknown_names_are_refused_with_a_suggestion(key, value, meant):
    with pytest.raises(InputError, match=meant):
        simulate_volume(replace(SMALL, **{key: value}), "train", 0)
