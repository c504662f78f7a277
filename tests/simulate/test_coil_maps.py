"""Loops against the closed form, and what receive sensitivities must be like."""

import numpy as np
import pytest
from scipy.special import ellipe, ellipk

from mrirecon.simulate.plane import Plane, rotated
from mrirecon.simulate.scanner.acquisition import Loop, coil_maps, loop_field, random_loops, receive_sensitivity

MU0 = 4e-7 * np.pi
BOX = (np.array([-78.0, -105.0, -88.0]), np.array([78.0, 95.0, 88.0]))


def _plane(orientation="axial", height=0.0, shape=(96, 80), spacing=2.2):
    row, column = rotated(orientation)
    return Plane.centered(np.array([0.0, 0.0, height]), row, column, spacing, shape)


@pytest.mark.parametrize("normal", [(0, 0, 1), (1, 0, 0), (0.6, 0, -0.8), (0.48, 0.6, 0.64)])
def test_on_the_axis_the_field_is_the_closed_form(normal):
    loop = Loop(np.array([10.0, -5.0, 3.0]), np.array(normal, dtype=float), radius_mm=40.0)
    z = np.array([-120.0, -30.0, 0.0, 15.0, 80.0])
    field = loop_field(loop.center + z[:, None] * loop.normal, loop)
    z_m, radius_m = z * 1e-3, 0.04
    expected = MU0 * radius_m**2 / (2 * (radius_m**2 + z_m**2) ** 1.5)
    np.testing.assert_allclose(field, expected[:, None] * loop.normal, rtol=1e-12, atol=1e-20)


def test_off_the_axis_the_field_is_that_of_elliptic_integrals():
    # Smythe, Static and Dynamic Electricity, section 7.10; SI, 1 A
    a, loop = 0.04, Loop(np.zeros(3), np.array([0.0, 0.0, 1.0]), 40.0)
    rho, z = np.array([0.01, 0.02, 0.06, 0.1]), np.array([0.03, -0.05, 0.04, 0.0])
    m = 4 * a * rho / ((a + rho) ** 2 + z**2)
    front = MU0 / (2 * np.pi * np.sqrt((a + rho) ** 2 + z**2))
    apart = (a - rho) ** 2 + z**2
    along = front * (ellipk(m) + (a**2 - rho**2 - z**2) / apart * ellipe(m))
    radial = front * z / rho * (-ellipk(m) + (a**2 + rho**2 + z**2) / apart * ellipe(m))
    points = 1e3 * np.stack([rho * np.cos(0.7), rho * np.sin(0.7), z], axis=-1)
    expected = np.stack([radial * np.cos(0.7), radial * np.sin(0.7), along], axis=-1)
    np.testing.assert_allclose(loop_field(points, loop), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_sensitivity_is_the_transverse_field_over_two():
    loop = Loop(np.array([0.0, 150.0, 0.0]), np.array([0.0, -1.0, 0.0]), 60.0)
    far = np.array([[0.0, -50.0, 0.0]])  # 200 mm away: the softened wire plays no role on this axis
    r, z = 0.06, 0.2
    by = -MU0 * r**2 / (2 * (r**2 + z**2) ** 1.5)
    assert receive_sensitivity(far, [loop])[0, 0] == pytest.approx(-1j * by / 2, rel=3e-3)


def test_a_loop_facing_along_b0_receives_nothing_on_its_axis():
    loop = Loop(np.array([0.0, 0.0, 120.0]), np.array([0.0, 0.0, 1.0]), 60.0)
    sideways = Loop(loop.center, np.array([1.0, 0.0, 0.0]), 60.0)
    along, across = np.abs(receive_sensitivity(np.zeros((1, 3)), [loop, sideways]))[:, 0]
    assert along < 1e-12 * across


def test_sensitivity_falls_with_distance():
    loop = Loop(np.array([0.0, 150.0, 0.0]), np.array([0.0, -1.0, 0.0]), 60.0)
    y = np.linspace(120, -120, 60)
    magnitude = np.abs(receive_sensitivity(np.stack([0 * y, y, 0 * y], axis=-1), [loop]))[0]
    assert (np.diff(magnitude) < 0).all()


def test_maps_have_a_smooth_phase_that_is_not_constant(rng):
    maps = coil_maps(_plane(), random_loops(rng, 8, *BOX))
    for one in maps[:, 15:-15, 12:-12]:
        weight = np.abs(one) > 0.1 * np.abs(one).max()
        steps = np.angle(one[1:] * one[:-1].conj())[weight[1:] & weight[:-1]]
        assert np.abs(steps).max() < 0.35  # rad per pixel of 2.2 mm
        assert np.abs(np.angle((one / np.abs(one))[weight].mean() * one[weight].conj())).max() > 0.2


@pytest.mark.parametrize("orientation", ["axial", "coronal", "sagittal"])
def test_interpolated_maps_equal_direct_ones(rng, orientation):
    plane, loops = _plane(orientation, 20.0), random_loops(rng, 16, *BOX)
    points = np.moveaxis(plane.points().astype(float), 0, -1)
    direct = receive_sensitivity(points, loops)
    inside = (((points - (BOX[0] + BOX[1]) / 2) / ((BOX[1] - BOX[0]) / 2)) ** 2).sum(-1) < 1  # the head, not the wires
    error = np.abs(coil_maps(plane, loops) - direct)[:, inside].max()
    assert error < 1e-3 * np.abs(direct[:, inside]).max()


def test_maps_depend_on_where_the_slice_is_and_how_it_lies(rng):
    loops = random_loops(rng, 8, *BOX)
    axial, higher, coronal = (coil_maps(p, loops) for p in (_plane(), _plane(height=40), _plane("coronal")))
    assert np.abs(axial - higher).max() > 0.05 * np.abs(axial).max()
    assert np.abs(axial - coronal).max() > 0.05 * np.abs(axial).max()


def test_one_coil_is_uniform(rng):
    assert random_loops(rng, 1, *BOX) == []
    maps = coil_maps(_plane(), [])
    assert maps.shape == (1, 96, 80)
    assert (maps == 1).all()


@pytest.mark.parametrize("n_coils", [2, 3, 8, 9, 16, 17, 31, 32])
def test_any_number_of_loops_surrounds_the_head_and_stays_outside_it(rng, n_coils):
    loops = random_loops(rng, n_coils, *BOX)
    assert len(loops) == n_coils
    center, half = (BOX[0] + BOX[1]) / 2, (BOX[1] - BOX[0]) / 2
    for loop in loops:
        assert np.linalg.norm(((loop.center - center) / half)[:2]) > 1.0
        assert np.linalg.norm(loop.normal) == pytest.approx(1)


def test_maps_stay_finite_where_a_slice_meets_a_wire():
    loop = Loop(np.array([0.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0]), 50.0)
    assert np.isfinite(receive_sensitivity(np.array([[0.0, 50.0, 0.0]]), [loop])).all()
