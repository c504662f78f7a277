"""Sign flips: the p value on these patients that stands beside a verdict."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mrirecon.errors import InputError
from mrirecon.evaluation.stats import sign_flip_p
from mrirecon.evaluation.stats.crossed import MAX_FLIPS


@pytest.mark.parametrize("n_seeds", [2, 6, 9, 12])
def test_equals_scipy(n_seeds):
    for seed in range(5):
        d = np.random.default_rng(seed).standard_normal(n_seeds) + 0.5
        test = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p(d) == pytest.approx(test.pvalue, rel=1e-12)


def test_ties_of_whole_numbers_count():
    d = [1, 1, 2, -1, 3]
    signed = [abs(sum((1 - 2 * i) * x for i, x in zip(signs, d, strict=True))) for signs in np.ndindex(2, 2, 2, 2, 2)]
    assert sign_flip_p(d) == float(Fraction(sum(value >= abs(sum(d)) for value in signed), 32))


def test_scale_sign_and_order_do_not_matter():
    d = np.random.default_rng(1).standard_normal(9) + 0.4
    assert sign_flip_p(1e-9 * d) == sign_flip_p(-1e6 * d) == sign_flip_p(d[::-1]) == sign_flip_p(d)


def test_constant_and_zero_differences():
    assert sign_flip_p([0.3] * 6) == 2 / 2**6
    assert sign_flip_p([0.0] * 6) == 1


def test_many_seeds_are_drawn_and_count_the_observed_signs():
    d = 0.4 + np.random.default_rng(0).standard_normal(20)
    p = sign_flip_p(d)
    test = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=200_000, rng=np.random.default_rng(3)
    )
    assert p == pytest.approx(test.pvalue, abs=4 * math.sqrt(p / MAX_FLIPS))
    assert sign_flip_p(d) == p != sign_flip_p(d, seed=1)
    assert sign_flip_p(np.ones(30)) == pytest.approx(1 / (MAX_FLIPS + 1))


@pytest.mark.parametrize("d", [[], [[1.0, 2]], [1, math.nan]])
def test_wrong_input_is_named(d):
    with pytest.raises(InputError, match="give finite numbers"):
        sign_flip_p(d)
