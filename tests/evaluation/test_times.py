"""Times to a target, some of them missed."""

import math

import numpy as np
import pytest
from scipy import stats

from mrirecon.errors import InputError
from mrirecon.evaluation.stats import (
    Side,
    compare_family,
    kaplan_meier,
    restricted,
    restricted_differences,
    restricted_interval,
    restricted_mean,
    sample,
)

TIMES = [120, None, 80, math.nan, 300, 120, 500]
HORIZON = 400


def test_a_miss_counts_as_the_horizon():
    assert restricted(TIMES, HORIZON).tolist() == [120, 400, 80, 400, 300, 120, 400]
    assert restricted_mean(TIMES, HORIZON) == pytest.approx(1820 / 7)
    assert restricted_mean([None, None], HORIZON) == HORIZON


def test_a_later_end_changes_only_who_is_not_there_yet():
    assert restricted_mean([10, 20], 100) == restricted_mean([10, 20], 1000) == 15
    assert restricted_mean([10, None], 100) == 55


def test_restricted_mean_of_exponential_times_is_the_integral_of_survival():
    times = np.random.default_rng(0).exponential(1.0, 100_000)
    assert restricted_mean(times, 1.5) == pytest.approx(1 - math.exp(-1.5), rel=0.01)


def test_interval_is_the_t_interval_of_restricted_times():
    values = restricted(TIMES, HORIZON)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert restricted_interval(TIMES, HORIZON) == pytest.approx((expected.low, expected.high))


def test_interval_stays_within_what_is_possible():
    assert restricted_interval([None, 1, None], 100)[1] == 100
    assert restricted_interval([1, None, 1], 100)[0] == 0
    assert restricted_interval([None, None], 100) == (100, 100)
    assert restricted_interval([5], 100) is None


def test_kaplan_meier_equals_the_product_over_those_still_running():
    times, reached = kaplan_meier(TIMES, HORIZON)
    survival, expected = 1.0, []
    for t in times:
        at_risk = sum(x is None or math.isnan(x) or x >= t for x in TIMES)
        events = sum(x == t for x in TIMES)
        survival *= 1 - events / at_risk
        expected.append(1 - survival)
    assert times.tolist() == [0, 80, 120, 300, 400]
    assert reached == pytest.approx(expected)
    assert reached == pytest.approx([0, 1 / 7, 3 / 7, 4 / 7, 4 / 7])


def test_restricted_mean_is_the_area_above_the_curve():
    times, reached = kaplan_meier(TIMES, HORIZON)
    assert (np.diff(times) * (1 - reached[:-1])).sum() == pytest.approx(restricted_mean(TIMES, HORIZON))


def test_kaplan_meier_at_the_ends():
    assert [part.tolist() for part in kaplan_meier([None, None], 50)] == [[0, 50], [0, 0]]
    assert [part.tolist() for part in kaplan_meier([0, 50], 50)] == [[0, 50], [0.5, 1]]


def test_paired_times_go_into_a_family():
    first, second = [100, 110, 120, None, 105, 90, 95, 130], [300, 320, None, None, 290, 280, 310, 330]
    d = restricted_differences(first, second, HORIZON)
    assert d.shape == (8, 1)
    assert d[:4, 0].tolist() == [-200, -210, -280, 0]
    sides = [Side(d, range(8)), Side(0 * d, range(8), -1)]
    compared = compare_family([sample("steps", sides, None)], metric="steps", better="lower")[0]
    expected = stats.ttest_1samp(d[:, 0], 0).confidence_interval()
    assert (compared.low, compared.high) == pytest.approx((expected.low, expected.high))
    assert compared.effect == pytest.approx(restricted_mean(first, HORIZON) - restricted_mean(second, HORIZON))
    assert (compared.verdict, compared.over) == ("BETTER", "seeds")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: restricted([1], 0), "horizon 0"),
        (lambda: restricted([1], math.inf), "horizon inf"),
        (lambda: restricted([1], math.nan), "horizon nan"),
        (lambda: restricted([], 10), "one time of 0 or more for each run"),
        (lambda: restricted([-1], 10), r"times \[-1\]"),
        (lambda: restricted_differences([1], [1, 2], 10), "1 and 2 times"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
