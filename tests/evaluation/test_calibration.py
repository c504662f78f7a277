"""The share of pixels within two deviations that calibrated Gaussian errors would have."""

import numpy as np
import pytest

from mrirecon.evaluation import bootstrap_ci
from mrirecon.evaluation.spread_calibration import calibration, calibration_line, expected_share


@pytest.mark.parametrize("n", [2, 3, 8, 50])
def test_expected_share_is_that_of_drawn_targets_and_samples(n):
    rng = np.random.default_rng(n)
    target, samples = rng.standard_normal(200_000), rng.standard_normal((n, 200_000))
    is_within = abs(target - samples.mean(0)) <= 2 * samples.std(0, ddof=1)
    assert expected_share(n) == pytest.approx(is_within.mean(), abs=5 * 0.5 / np.sqrt(200_000))


def test_expected_share_goes_to_that_of_a_known_deviation():
    assert expected_share() == pytest.approx(0.9545, abs=1e-4)
    assert expected_share(10**6) == pytest.approx(expected_share(), abs=1e-5)


def test_shares_are_over_pixels_and_intervals_over_patients():
    counts = [(10, 20), (5, 5), (0, 0), (30, 40), (1, 10), (7, 10), (2, 2)]
    patients = ["a", "a", "b", "c", "d", "e", "f"]
    found = calibration(counts, patients, 8, seed=1)
    assert found["within_2_sd"] == 55 / 87
    assert found["n_object_pixels"] == 87
    kept = [k for k in range(7) if k != 2]
    shares, weights = [counts[k][0] / counts[k][1] for k in kept], [counts[k][1] for k in kept]
    assert (found["low"], found["high"]) == bootstrap_ci(shares, [patients[k] for k in kept], 0.95, 1, weights)
    line = calibration_line(found)
    assert "the error of 63.2 % [" in line
    assert "of 87 object pixels is within 2 SD of 8 reconstructions" in line
    assert "for Gaussian errors 95 % would be calibrated; 90 % where mean and SD are of 8 draws" in line


def test_no_object_is_said():
    assert "no object" in calibration_line(calibration([(0, 0)], ["a"], 3))
