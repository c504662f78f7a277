"""Effects over seeds and patients at once."""

import math

import numpy as np
import pytest
from scipy import stats
from simulated_studies import RESIDUAL_ONLY, SETTINGS, coverage

from mrirecon.errors import InputError
from mrirecon.evaluation.stats import by_patient, crossed_bootstrap, crossed_effect


def table(n_seeds=6, n_units=9, sds=(1.0, 0.7, 0.5), seed=0):
    rng = np.random.default_rng(seed)
    parts = (
        rng.standard_normal((n_seeds, 1)),
        rng.standard_normal((1, n_units)),
        rng.standard_normal((n_seeds, n_units)),
    )
    return 0.4 + sum(sd * part for sd, part in zip(sds, parts, strict=True))


def test_equals_the_two_way_table_by_hand():
    # mean squares of a 3 x 5 table: rows 50, columns 10, residual 2
    rows, columns = np.array([-1.0, 0, 1]) * math.sqrt(10), np.array([-2.0, -1, 0, 1, 2]) * math.sqrt(4 / 3)
    residual = np.outer([1.0, -1, 0], [1.0, -1, 1, -1, 0]) * math.sqrt(2)
    effect = crossed_effect(7 + rows[:, None] + columns + residual)
    assert (effect.mean, effect.n_seeds, effect.n_units) == (pytest.approx(7), 3, 5)
    assert effect.se**2 == pytest.approx((50 + 10 - 2) / 15)
    assert effect.df == pytest.approx(58**2 / (50**2 / 2 + 10**2 / 4 + 2**2 / 8))
    assert (effect.sd_seeds, effect.sd_units) == pytest.approx((math.sqrt(48 / 5), math.sqrt(8 / 3)))
    assert effect.sd_residual == pytest.approx(math.sqrt(2))
    assert (effect.low, effect.high) == pytest.approx(stats.t.interval(0.95, effect.df, effect.mean, effect.se))
    assert effect.generalizes == "seeds and volumes"


def test_without_variance_between_units_equals_the_t_test_over_seeds():
    d = np.repeat(table()[:, :1], 12, axis=1)
    effect, expected = crossed_effect(d), stats.ttest_1samp(d[:, 0], 0).confidence_interval()
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    assert effect.df == pytest.approx(5)


def test_without_variance_between_seeds_equals_the_t_test_over_units():
    d = np.repeat(table()[:1], 12, axis=0)
    effect, expected = crossed_effect(d), stats.ttest_1samp(d[0], 0).confidence_interval()
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    assert effect.df == pytest.approx(8)


def test_one_seed_is_the_t_test_over_units():
    d = table(1, 7)
    effect, expected = crossed_effect(d, 0.9), stats.ttest_1samp(d[0], 0).confidence_interval(0.9)
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    assert (effect.df, effect.generalizes) == (6, "volumes")
    assert math.isnan(effect.sd_seeds)


@pytest.mark.parametrize("n_units", [1, 4])
def test_few_units_are_taken_as_they_are(n_units):
    d = table(8, n_units)
    effect, expected = crossed_effect(d), stats.ttest_1samp(d.mean(axis=1), 0).confidence_interval()
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    assert (effect.df, effect.generalizes) == (7, "seeds")
    assert crossed_effect(table(8, 5)).generalizes == "seeds and volumes"


def test_never_narrower_than_one_factor_alone():
    for seed in range(200):
        d = table(4, 6, (0, 0, 1), seed)
        effect = crossed_effect(d)
        alone = max(stats.sem(d.mean(axis=1)), stats.sem(d.mean(axis=0)))
        assert effect.se >= alone * (1 - 1e-12)
        assert 3 <= effect.df <= 3 + 5 + 15


def test_turned_shifted_scaled():
    d = table()
    effect, turned, moved = crossed_effect(d), crossed_effect(d.T), crossed_effect(100 - 3 * d)
    assert turned[:5] == pytest.approx(effect[:5])
    assert (turned.sd_seeds, turned.sd_units) == pytest.approx((effect.sd_units, effect.sd_seeds))
    assert (moved.low, moved.high) == pytest.approx((100 - 3 * effect.high, 100 - 3 * effect.low))
    assert moved.df == pytest.approx(effect.df)


def test_other_levels():
    effect = crossed_effect(table())
    assert effect.interval(0.95) == (effect.low, effect.high)
    assert effect.interval(0.99) == pytest.approx(crossed_effect(table(), 0.99)[1:3])
    assert effect.interval(0.99).low < effect.low


def test_equal_differences_leave_no_doubt():
    effect = crossed_effect(np.full((6, 8), 0.25))
    assert (effect.mean, effect.low, effect.high, effect.se) == (0.25, 0.25, 0.25, 0)
    assert effect.df == 5


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_coverage(setting):
    assert 0.92 <= coverage(setting, 1000, seed=1) <= 0.98


@pytest.mark.parametrize("setting", RESIDUAL_ONLY, ids=str)
def test_coverage_with_residual_noise_only(setting):
    assert coverage(setting, 1000, seed=1) >= 0.92


def test_volumes_of_a_patient_are_averaged():
    d = np.array([[1.0, 2, 3, 4], [5, 6, 7, 9]])
    assert by_patient(d, ["b", "a", "b", "c"]).tolist() == [[2, 2, 4], [6, 6, 9]]


def test_bootstrap_of_a_full_cross_equals_all_resamples():
    d = table(3, 2)  # 2 units are fixed: 27 resamples of 3 seeds, equally likely
    means = [d.mean(axis=1)[list(i)].mean() for i in np.ndindex(3, 3, 3)]
    low, high = crossed_bootstrap(d, 0.5, n_resamples=200_000)
    assert (low, high) == pytest.approx(np.quantile(means, [0.25, 0.75], method="inverted_cdf"), abs=1e-12)


def test_bootstrap_variance_is_owens():
    # Owen 2007, theorem 1 in a balanced table: the exact variance of the pigeonhole mean
    d = table(7, 11)
    n, m = d.shape
    rows, columns = d.mean(axis=1).var() / n, d.mean(axis=0).var() / m
    rest = (d - d.mean(axis=1, keepdims=True) - d.mean(axis=0) + d.mean()).var() / (n * m)
    sd = math.sqrt(rows + columns + rest)
    half = stats.norm.ppf(0.975) * sd
    low, high = crossed_bootstrap(d)
    assert (low, high) == pytest.approx((d.mean() - half, d.mean() + half), abs=0.1 * half)


def test_bootstrap_of_one_run_resamples_its_patients():
    d = table(1, 30)
    expected = stats.bootstrap((d[0],), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    low, high = crossed_bootstrap(d)
    assert (low, high) == pytest.approx(tuple(expected), abs=0.03 * (high - low))
    assert crossed_bootstrap(d, seed=1) != (low, high) == crossed_bootstrap(d)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: crossed_effect(np.zeros(5)), r"shape \(5,\)"),
        (lambda: crossed_effect(np.zeros((0, 5))), r"shape \(0, 5\)"),
        (lambda: crossed_effect([[1, math.nan], [1, math.inf]]), "2 of 4 differences are not finite"),
        (lambda: crossed_effect(np.zeros((1, 4))), "1 seed and 4 patients .* 2 seeds or 5 patients"),
        (lambda: crossed_effect(np.zeros((2, 4)), 95), "confidence level 95"),
        (lambda: crossed_bootstrap(np.zeros((2, 4)), 0), "confidence level 0"),
        (lambda: by_patient(np.zeros((2, 4)), ["a"]), r"shape \(2, 4\) for 1 patients"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
