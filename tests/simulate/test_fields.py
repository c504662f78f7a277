"""Random fields: their spectrum, their size, and that they are one field in space."""

import numpy as np
import pytest

from mrirecon.simulate.fields import PeriodicField, Waves, product
from mrirecon.simulate.plane import Plane, rotated


def test_waves_on_a_plane_equal_their_definition(rng):
    waves = Waves.random(rng, (5, 50), 12)
    plane = Plane.centered(np.array([3.0, -7.0, 20.0]), *rotated("coronal", 0.3, (0.1, -0.2)), 1.3, (21, 17))
    points = plane.points().reshape(3, -1).astype(float)
    direct = np.cos(waves.wave_vectors @ points + waves.phases[:, None]).sum(0) * np.sqrt(2 / 12)
    np.testing.assert_allclose(waves.on(plane).ravel(), direct, atol=1e-4)


def test_waves_have_mean_zero_and_variance_one(rng):
    plane = Plane.centered(np.zeros(3), *rotated("axial"), 1.0, (400, 400))
    values = Waves.random(rng, (5, 20), 64).on(plane)
    assert abs(values.mean()) < 0.05
    assert values.std() == pytest.approx(1, abs=0.1)


def test_crossing_planes_agree_where_they_cross(rng):
    waves = Waves.random(rng, (10, 80), 16)
    axial = Plane.centered(np.zeros(3), *rotated("axial"), 1.0, (41, 41))
    coronal = Plane.centered(np.zeros(3), *rotated("coronal"), 1.0, (41, 41))
    np.testing.assert_allclose(waves.on(axial)[20], waves.on(coronal)[20], atol=1e-4)


def test_the_periodic_field_is_band_limited(rng):
    field = PeriodicField.random(rng, wavelength_mm=24.0, n=48)
    power = np.abs(np.fft.rfftn(field.values)) ** 2
    frequency = np.sqrt(
        np.fft.fftfreq(48)[:, None, None] ** 2 + np.fft.fftfreq(48)[None, :, None] ** 2 + np.fft.rfftfreq(48) ** 2
    )
    mean = (frequency * power).sum() / power.sum() / field.spacing_mm
    assert 1 / mean == pytest.approx(24.0, rel=0.15)
    assert field.values.std() == pytest.approx(1, rel=1e-3)


def test_the_periodic_field_repeats_without_a_seam(rng):
    field = PeriodicField.random(rng, 20.0, n=32)
    points = rng.uniform(-30, 30, (3, 50))
    period = 32 * field.spacing_mm
    np.testing.assert_allclose(field.at(points), field.at(points + period), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 1), (7, 500, 900), (1000, 30, 17)])
def test_products_in_blocks_are_products(rng, shape):
    m, k, n = shape
    left, right = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    np.testing.assert_allclose(product(left, right), left @ right, atol=1e-10)
