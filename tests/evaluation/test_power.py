"""What a study can find, and equivalence."""

import math

import numpy as np
import pytest
from scipy import stats
from simulated_studies import SETTINGS, Setting, found, true_effect

from mrirecon.errors import InputError
from mrirecon.evaluation.stats import (
    crossed_effect,
    minimum_detectable_effect,
    probability_of_superiority,
    seeds_needed,
    tost_p,
)


def over_seeds(n=8, sd=1.0, mean=0.0):
    """An effect over seeds only, with exactly this mean and standard deviation."""
    values = np.random.default_rng(n).standard_normal(n)
    return crossed_effect((mean + sd * stats.zscore(values, ddof=1))[:, None])


def power_of_t_test(difference, sd, n, level):
    """Of finding it on the right side, by quadrature over the standard deviation (not by the noncentral t)."""
    critical = stats.t.ppf((1 + level) / 2, n - 1)
    shares = (np.arange(20_000) + 0.5) / 20_000
    estimated = sd * np.sqrt(stats.chi2.ppf(shares, n - 1) / (n - 1))
    return stats.norm.sf(critical * estimated / sd - difference * math.sqrt(n) / sd).mean()


@pytest.mark.parametrize("n", [3, 6, 10, 40])
@pytest.mark.parametrize(("level", "power"), [(0.95, 0.8), (0.95, 0.5), (1 - 0.05 / 24, 0.9)])
def test_detectable_effect_has_its_power(n, level, power):
    detectable = minimum_detectable_effect(over_seeds(n, sd=0.3), level, power)
    assert power_of_t_test(detectable, 0.3, n, level) == pytest.approx(power, abs=1e-3)


def test_detectable_effect_of_many_seeds_is_the_textbooks():
    effect = over_seeds(10_000, sd=2.0)
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert minimum_detectable_effect(effect) == pytest.approx(z * 2 / 100, rel=1e-3)


def test_no_noise_finds_everything():
    assert minimum_detectable_effect(crossed_effect(np.ones((6, 8)))) == 0


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_crossed_studies_find_the_detectable_effect_as_often_as_said(setting):
    wanted = minimum_detectable_effect(true_effect(setting))
    assert found(setting, wanted, 3000, seed=1) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("wanted", "level"), [(1.5, 0.95), (0.5, 0.95), (0.2, 0.95), (0.5, 1 - 0.05 / 8)])
def test_seeds_needed_over_seeds_is_the_smallest_enough(wanted, level):
    n = seeds_needed(over_seeds(8), wanted, level)
    assert power_of_t_test(wanted, 1.0, n, level) >= 0.8 - 1e-3
    assert power_of_t_test(wanted, 1.0, n - 1, level) < 0.8


def test_seeds_needed_is_sought_without_gaps():
    effect = over_seeds(8)
    numbers = [seeds_needed(effect, minimum_detectable_effect(over_seeds(n)) * (1 + 1e-9)) for n in range(2, 130)]
    assert numbers == list(range(2, 130))


def test_so_many_seeds_do_find_a_crossed_difference():
    setting = Setting("seeds", 6, 40, (0.6, 0.05, 0.35))
    n = seeds_needed(true_effect(setting), 0.6)
    assert found(setting._replace(n_seeds=n), 0.6, 3000) == pytest.approx(0.8, abs=0.03)
    assert true_effect(setting, n).se < true_effect(setting).se


def test_more_seeds_cannot_when_patients_differ():
    setting = Setting("volumes", 6, 40, (0.1, 0.8, 0.1))
    effect = true_effect(setting)
    floor = math.sqrt(0.8 / 40) * (stats.t.ppf(0.975, 39) + stats.t.ppf(0.8, 39))  # without any noise of seeds
    assert seeds_needed(effect, 0.98 * floor) is None
    assert seeds_needed(effect, 1.1 * floor) is not None


def test_one_run_cannot_say_how_many_seeds():
    assert seeds_needed(crossed_effect(np.random.default_rng(0).standard_normal((1, 30))), 0.5) is None
    assert seeds_needed(over_seeds(), 0.0) is None
    assert seeds_needed(over_seeds(), math.nan) is None


@pytest.mark.parametrize("mean", [0.0, 0.1, -0.25, 0.4])
def test_equivalence_equals_two_t_tests(mean):
    effect = over_seeds(12, sd=0.3, mean=mean)
    values = mean + 0.3 * stats.zscore(np.random.default_rng(12).standard_normal(12), ddof=1)
    below = stats.ttest_1samp(values, 0.3, alternative="less").pvalue
    above = stats.ttest_1samp(values, -0.3, alternative="greater").pvalue
    assert tost_p(effect, 0.3) == pytest.approx(max(below, above))


def test_equivalence_is_a_90_percent_interval_within_the_margin():
    for mean in np.linspace(-0.4, 0.4, 17):
        effect = over_seeds(9, sd=0.3, mean=mean)
        low, high = effect.interval(0.9)
        assert (tost_p(effect, 0.3) <= 0.05) == (low > -0.3 and high < 0.3)


def test_equivalence_without_noise():
    effect = crossed_effect(np.full((6, 8), 0.25))
    assert (tost_p(effect, 0.3), tost_p(effect, 0.2), tost_p(effect, 0.25)) == (0, 1, 1)


def test_superiority_counts_pairs_and_ties_half():
    a, b = np.array([1.0, 2, 3, 4, 5]), np.array([0.0, 2, 5, 1, 1])
    assert probability_of_superiority(a, b) == 0.7  # three wins, a tie, a loss
    assert probability_of_superiority(a, b) + probability_of_superiority(b, a) == 1
    assert probability_of_superiority(a, a) == 0.5


def test_superiority_of_a_normal_difference():
    d = np.random.default_rng(0).normal(0.5, 1, 20_000)
    assert probability_of_superiority(d, np.zeros_like(d)) == pytest.approx(stats.norm.cdf(0.5), abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimum_detectable_effect(over_seeds(), 95), "confidence level 95"),
        (lambda: minimum_detectable_effect(over_seeds(), 0.95, 80), "power 80"),
        (lambda: seeds_needed(over_seeds(), 0.1, 1.0), "confidence level 1.0"),
        (lambda: tost_p(over_seeds(), 0), "equivalence margin 0"),
        (lambda: tost_p(over_seeds(), math.nan), "equivalence margin nan"),
        (lambda: probability_of_superiority(np.zeros(2), np.zeros(3)), r"shapes \(2,\) and \(3,\)"),
        (lambda: probability_of_superiority(np.zeros(0), np.zeros(0)), "one pair for each seed"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
