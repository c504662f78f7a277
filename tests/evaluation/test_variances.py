"""Variances by source, and exact intervals of shares."""

import math

import numpy as np
import pytest
from scipy import stats

from mrirecon.errors import InputError
from mrirecon.evaluation.stats import exact_share, variance_table
from mrirecon.evaluation.stats.crossed import crossed_effect


def drawn(sds, shape=(6, 60, 60), seed=0):
    m, s, p = shape
    rng = np.random.default_rng(seed)
    shapes = [(1, s, 1), (1, 1, p), (m, s, 1), (m, 1, p), (1, s, p), (m, s, p)]
    return sum(sd * rng.standard_normal(part) for sd, part in zip(sds, shapes, strict=True))


def test_known_standard_deviations_are_found():
    truth = (3.0, 10.0, 0.5, 0.7, 1.0, 0.4)
    found = variance_table(30 + drawn(truth))
    assert list(found["sd"].values()) == pytest.approx(truth, rel=0.25)
    seeds, patients = 3**2, 10**2
    assert found["correlation"]["seeds"] == pytest.approx(seeds / (seeds + 0.5**2), abs=0.03)
    assert found["correlation"]["patients"] == pytest.approx(patients / (patients + 0.7**2), abs=0.01)


def test_two_methods_agree_with_their_paired_differences():
    """What is of a method and a seed, twice, is the spread of the difference between seeds."""
    y = drawn((1, 2, 0.6, 0.8, 0.5, 0.3), (2, 8, 12))
    sd, effect = variance_table(y)["sd"], crossed_effect(y[0] - y[1])
    assert effect.sd_seeds == pytest.approx(math.sqrt(2) * sd["method x seed"])
    assert effect.sd_patients == pytest.approx(math.sqrt(2) * sd["method x patient"])
    assert effect.sd_rest == pytest.approx(math.sqrt(2) * sd["rest"])


@pytest.mark.parametrize(("n", "of"), [(0, 10), (1, 10), (9, 10), (10, 10), (3, 200)])
def test_shares_have_the_exact_interval(n, of):
    expected = stats.binomtest(n, of).proportion_ci(0.95, method="exact")
    assert exact_share(n, of) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: variance_table(np.zeros((1, 5, 5))), "2 or more of each"),
        (lambda: variance_table(np.full((2, 5, 5), np.nan)), "give finite"),
        (lambda: exact_share(3, 2), "3 of 2"),
        (lambda: exact_share(1, 2, 95), "confidence level 95"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
