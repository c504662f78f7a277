"""Planes and stacks: centres, spacing, field of view."""

import numpy as np
import pytest

from mrirecon.simulate.plane import ORIENTATIONS, Plane, rotated
from mrirecon.simulate.scanner.geometry import Geometry

BOX = (np.array([-75.0, -100.0, -80.0]), np.array([75.0, 95.0, 85.0]))


def _stack(rng, orientation="axial", matrix=(96, 80), oversampling=2.0, n_slices=5, tilt=0.1):
    geometry = Geometry(orientation, matrix, oversampling, n_slices, tilt)
    return geometry.random_stack(rng, BOX, (-30.0, 60.0), (3.5, 9.0))


@pytest.mark.parametrize("shape", [(8, 6), (9, 7)])
def test_the_centre_stands_where_the_centred_transform_has_it(shape):
    center = np.array([1.0, 2.0, 3.0])
    plane = Plane.centered(center, *rotated("axial"), 2.0, shape)
    np.testing.assert_allclose(plane.points()[:, shape[0] // 2, shape[1] // 2], center)
    assert plane.spacing_mm == 2.0


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_directions_stay_orthonormal_and_near_their_orientation(orientation):
    row, column = rotated(orientation, 0.4, (0.1, -0.15))
    assert row @ column == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(row) == pytest.approx(1)
    normal = np.cross(row, column)
    assert abs(normal @ ORIENTATIONS[orientation][0]) > np.cos(0.2)


def test_a_window_keeps_all_points_of_the_box():
    plane = Plane.centered(np.zeros(3), *rotated("axial", 0.5, (0.1, 0.1)), 1.5, (200, 180))
    low, high = np.array([-40.0, -50.0, -200.0]), np.array([30.0, 60.0, 200.0])
    points = plane.points()
    inside = ((points >= low[:, None, None]) & (points <= high[:, None, None])).all(0)
    rows, columns = plane.window(low, high)
    assert inside[rows, columns].sum() == inside.sum() > 0
    assert plane.part(rows, columns).points().shape[1:] == inside[rows, columns].shape


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("matrix", [(128, 128), (97, 64), (256, 320)])
def test_a_stack_is_parallel_evenly_spaced_and_finer_than_the_image(rng, orientation, matrix):
    stack = _stack(rng, orientation, matrix)
    assert stack.shape == matrix
    assert stack.finer >= 2
    offsets = np.diff([plane.center for plane in stack.planes], axis=0)
    np.testing.assert_allclose(offsets, offsets[:1].repeat(len(offsets), 0), atol=1e-9)
    assert np.linalg.norm(offsets[0]) == pytest.approx(stack.spacing_mm)
    assert stack.thickness_mm <= stack.spacing_mm
    for plane in stack.planes:
        assert plane.shape == (stack.kspace_shape[0] * stack.finer, stack.kspace_shape[1] * stack.finer)
        assert plane.spacing_mm == pytest.approx(stack.pixel_mm / stack.finer)


@pytest.mark.parametrize("height", [64, 65, 127])
@pytest.mark.parametrize("oversampling", [1.0, 1.3, 2.0])
def test_the_oversampled_height_shares_its_centre_with_the_image(height, oversampling):
    encoded, width = Geometry("axial", (height, 50), oversampling, 1, 0.0).encoded_matrix
    assert width == 50
    assert encoded // 2 - (encoded - height) // 2 == height // 2
    assert encoded == pytest.approx(height * oversampling, abs=1)


def test_fields_of_view_vary(rng):
    pixels = np.array([_stack(rng).pixel_mm for _ in range(30)])
    assert pixels.std() / pixels.mean() > 0.05
