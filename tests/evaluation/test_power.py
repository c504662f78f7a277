"""What designs can find, and the chance that a new run is better."""

import math

import numpy as np
import pytest
from interval_by_hand import half_of
from scipy import stats
from simulated_studies import NORMAL, REGIMES, Setting, found, methods

from mrirecon.errors import InputError
from mrirecon.evaluation.stats import (
    Variances,
    deciding_designs,
    detectable_difference,
    half_width,
    probability_of_superiority,
)
from mrirecon.evaluation.stats.crossed import nested_parts, paired_parts


@pytest.mark.parametrize("n", [3, 6, 10, 40])
@pytest.mark.parametrize(("m", "power"), [(1, 0.8), (1, 0.5), (24, 0.9)])
def test_over_seeds_it_is_the_power_of_the_t_test(n, m, power):
    detectable = detectable_difference(Variances(0.3, 0, 0), n, 50, m, power=power)
    critical = stats.t.ppf(1 - 0.025 / m, n - 1)
    noncentral = stats.nct.sf(critical, n - 1, detectable * math.sqrt(n) / 0.3)
    assert noncentral == pytest.approx(power, abs=2e-3)


def test_many_seeds_are_the_textbooks():
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert detectable_difference(Variances(2, 0, 0), 10_000, 50) == pytest.approx(z * 2 / 100, rel=2e-3)


def test_no_noise_finds_everything():
    assert detectable_difference(Variances(0, 0, 0), 6, 8) == 0


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("n_seeds", "n_patients"), [(5, 5), (6, 10), (10, 50)])
@pytest.mark.parametrize("m", [1, 8])
def test_crossed_studies_find_it_as_often_as_said(regime, n_seeds, n_patients, m):
    setting = Setting(regime, NORMAL, n_seeds, n_patients)
    wanted = detectable_difference(setting.sds, n_seeds, n_patients, m)
    assert found(setting, wanted, m, 2000, seed=1) == pytest.approx(0.8, abs=0.03)


def one(setting, seed=0):
    a, b = methods(np.random.default_rng(seed), setting, 1, 2)[0]
    return paired_parts(a - b)


@pytest.mark.parametrize("regime", REGIMES)
def test_designs_that_decide_are_the_smallest(regime):
    parts = one(Setting(regime, NORMAL, 6, 12))
    margin = 1.5 * float(half_width(parts, 0.05 / 8))
    designs = deciding_designs(parts, margin, 8)
    assert designs
    s, p, r = (float(x.squeeze()) for x in (parts.seeds, parts.patients, parts.rest))
    of_seeds, of_patients, of_rest = max(s - r, 0) * 6, max(p - r, 0) * 12, r * 72

    def width(n_seeds, n_patients):
        rest = of_rest / (n_seeds * n_patients)
        seeds, patients = of_seeds / n_seeds + rest, of_patients / n_patients + rest
        return 2 * half_of([(seeds, n_seeds), (patients, n_patients)], rest, 0.05 / 8)

    for n_seeds, n_patients in designs:
        assert width(n_seeds, n_patients) <= margin
        assert width(n_seeds - 1, n_patients - 1) > margin
    for n_seeds, n_patients in designs:
        if n_patients == 12:
            assert width(n_seeds - 1, 12) > margin


def test_more_seeds_alone_cannot_when_patients_differ():
    parts = one(Setting("patients", NORMAL, 10, 10))
    designs = deciding_designs(parts, float(half_width(parts, 0.05)) / 2)
    assert designs
    assert all(n_patients > 10 for _, n_patients in designs)
    assert deciding_designs(parts, 1e-6) == []


def test_designs_of_unpaired_seeds_count_the_seeds_of_each():
    a, b = methods(np.random.default_rng(0), Setting("seeds", NORMAL, 9, 20), 1, 2)[0]
    parts = nested_parts([a, b[:6]], [1, -1])
    for n_seeds, n_patients in deciding_designs(parts, float(half_width(parts, 0.05))):
        assert n_seeds >= 9
        assert n_patients >= 20


def test_superiority_counts_runs_of_other_seeds_and_ties_half():
    a, b = np.array([[1.0, 2], [3, 4]]), np.array([[0.0, 2], [4, 5]])
    # run 0 of a with run 1 of b: 0 of 2; run 1 of a with run 0 of b: 2 of 2
    assert probability_of_superiority(a, b, [0, 1], [0, 1]) == 0.5
    assert probability_of_superiority(a, b, [0, 1], [8, 9]) == (1.5 + 0 + 2 + 0) / 8
    assert probability_of_superiority(a, a, [0], [0]) is None
    assert probability_of_superiority(a[:1], a[:1], [None], [None]) == 0.5


def test_superiority_of_normal_methods_is_the_probability_of_new_runs():
    sd_seed, sd_patient = 0.6, 0.4
    rng = np.random.default_rng(0)
    values = [
        mean + sd_seed * rng.standard_normal((400, 1)) + sd_patient * rng.standard_normal((1, 800))
        for mean in (0.5, 0.0)
    ]
    expected = stats.norm.cdf(0.5 / math.sqrt(2 * sd_seed**2 + 2 * sd_patient**2))
    got = probability_of_superiority(*values, range(400), range(400))
    assert got == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: detectable_difference(Variances(1, 1, 1), 1, 5), "1 seeds, 5 patients"),
        (lambda: detectable_difference(Variances(1, 1, 1), 5, 5, power=80), "power 80"),
        (lambda: probability_of_superiority(np.zeros((2, 3)), np.zeros((2, 4)), [0, 1], [0, 1]), "same patients"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
