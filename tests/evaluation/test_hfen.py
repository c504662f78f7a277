"""HFEN against a kernel written from its formula, direct convolution, and closed forms."""

import math

import numpy as np
import pytest
from scipy.signal import convolve2d

from mrirecon.evaluation import combine_slices, score_slice


def hfen(target, image):
    slices = [score_slice(t, r, 1.0, ["hfen"]) for t, r in zip(target, image, strict=True)]
    return combine_slices(slices, 1.0).scores["hfen"]


def kernel():
    """MATLAB's fspecial('log', 15, 1.5), by its documentation."""
    gauss = {(i, j): math.exp(-(i**2 + j**2) / (2 * 1.5**2)) for i in range(-7, 8) for j in range(-7, 8)}
    total = sum(gauss.values())
    log = {(i, j): (i**2 + j**2 - 2 * 1.5**2) * g / (1.5**4 * total) for (i, j), g in gauss.items()}
    mean = sum(log.values()) / 15**2
    return np.array([[log[i, j] - mean for j in range(-7, 8)] for i in range(-7, 8)])


@pytest.mark.parametrize("shape", [(3, 40, 33), (1, 8, 70), (2, 5, 6)])
def test_equals_direct_convolution_over_the_volume(shape):
    rng = np.random.default_rng(0)
    target, image = rng.random(shape), rng.random(shape)
    log = kernel()
    assert abs(log.sum()) < 1e-15
    error, edges = (
        np.concatenate([convolve2d(x, log, mode="same", boundary="fill").ravel() for x in stack])
        for stack in (target - image, target)
    )
    assert hfen(target, image) == pytest.approx(np.linalg.norm(error) / np.linalg.norm(edges), rel=1e-12)


def test_closed_forms():
    rng = np.random.default_rng(1)
    target = rng.random((2, 48, 52))
    assert hfen(target, target) == 0
    for factor in (0.0, 0.5, 1.25, -1.0):
        assert hfen(target, factor * target) == pytest.approx(abs(1 - factor), rel=1e-12)
    spike = np.zeros((1, 41, 61))
    spike[0, 20, 20] = 3.0  # answers with the kernel itself
    assert hfen(spike, np.zeros_like(spike)) == pytest.approx(1, rel=1e-12)
    assert hfen(spike, np.roll(spike, 15, axis=2)) == pytest.approx(math.sqrt(2), rel=1e-12)
    assert hfen(np.zeros((1, 9, 9)), np.ones((1, 9, 9))) == math.inf


def test_an_offset_is_no_edge_but_at_the_border():
    """The kernel has sum 0, and around the image are zeros."""
    rng = np.random.default_rng(2)
    target = rng.random((1, 64, 64))
    log = kernel()
    border = convolve2d(np.full((64, 64), 0.5), log, mode="same", boundary="fill")
    assert abs(border[7:-7, 7:-7]).max() < 1e-15 < abs(border).max()
    edges = convolve2d(target[0], log, mode="same", boundary="fill")
    assert hfen(target, target + 0.5) == pytest.approx(np.linalg.norm(border) / np.linalg.norm(edges), rel=1e-12)


def test_a_blur_costs_more_than_a_scale_of_the_same_error():
    """What the metric is for: at equal NMSE it is worse where edges are lost."""
    from scipy.ndimage import gaussian_filter

    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    target = (np.hypot(y, x) < 0.6)[None] * 1.0
    blurred = gaussian_filter(target, (0, 1.5, 1.5))
    error = np.linalg.norm(target - blurred) / np.linalg.norm(target)
    scaled = (1 - error) * target
    assert hfen(target, blurred) > 3 * hfen(target, scaled)
