"""Intervals over patients."""

import math

import numpy as np
import pytest
from scipy import stats

from mrirecon.errors import InputError
from mrirecon.evaluation import bootstrap_ci


def cohort(n_patients=12, volumes_each=1, seed=0):
    rng = np.random.default_rng(seed)
    patients = [f"p{i}" for i in range(n_patients) for _ in range(volumes_each)]
    level = rng.normal(0.8, 0.05, n_patients).repeat(volumes_each)
    return level.tolist(), patients


def test_equals_scipy_for_one_volume_each():
    values, patients = cohort()
    by_name = np.array([v for _, v in sorted(zip(patients, values, strict=True))])
    expected = stats.bootstrap((by_name,), np.mean, method="BCa", rng=np.random.default_rng(3), n_resamples=9999)
    ours = bootstrap_ci(values, patients, seed=3)
    width = ours.high - ours.low
    # A ratio of sums in place of a mean: the same resamples up to the way scipy draws pairs.
    assert ours.low == pytest.approx(expected.confidence_interval.low, abs=0.03 * width)
    assert ours.high == pytest.approx(expected.confidence_interval.high, abs=0.03 * width)


def test_close_to_the_normal_interval_for_many_patients():
    values, patients = cohort(300)
    low, high = bootstrap_ci(values, patients)
    half = 1.96 * np.std(values, ddof=1) / math.sqrt(len(values))
    assert low == pytest.approx(np.mean(values) - half, abs=0.1 * half)
    assert high == pytest.approx(np.mean(values) + half, abs=0.1 * half)


def test_repeating_a_patients_volumes_adds_no_certainty():
    values, patients = cohort(10)
    repeated, owners = cohort(10, volumes_each=8)
    assert bootstrap_ci(repeated, owners) == pytest.approx(bootstrap_ci(values, patients), rel=1e-12)
    pretended = bootstrap_ci(repeated, [str(i) for i in range(len(repeated))])
    honest = bootstrap_ci(repeated, owners)
    assert pretended.high - pretended.low < 0.5 * (honest.high - honest.low)


def test_order_does_not_matter_and_the_seed_does():
    values, patients = cohort(8, 2)
    order = np.random.default_rng(1).permutation(len(values))
    assert bootstrap_ci([values[i] for i in order], [patients[i] for i in order]) == bootstrap_ci(values, patients)
    assert bootstrap_ci(values, patients) == bootstrap_ci(values, patients, seed=0)
    assert bootstrap_ci(values, patients, seed=1) != bootstrap_ci(values, patients)


def test_level_and_scale():
    values, patients = cohort()
    narrow, wide = bootstrap_ci(values, patients, 0.8), bootstrap_ci(values, patients, 0.99)
    assert wide.low < narrow.low < np.mean(values) < narrow.high < wide.high
    scaled = bootstrap_ci([4 * v for v in values], patients)
    assert scaled == tuple(4 * b for b in bootstrap_ci(values, patients))


def test_fewer_than_five_patients_have_no_interval():
    values, patients = cohort(4, 10)
    assert bootstrap_ci(values, patients) is None
    assert bootstrap_ci(*cohort(5)) is not None


def test_equal_values_have_an_interval_without_width():
    assert bootstrap_ci([0.5] * 6, list("abcdef")) == (0.5, 0.5)


def test_values_that_are_not_finite_have_none():
    assert bootstrap_ci([math.inf, *[0.5] * 5], list("abcdef")) is None


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="2 values for 1 patients"):
        bootstrap_ci([1, 2], ["a"])
    with pytest.raises(InputError, match="confidence level 95"):
        bootstrap_ci([1], ["a"], 95)
