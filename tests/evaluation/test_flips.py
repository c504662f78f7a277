"""Sign flips in families."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from simulated_studies import POWERS, SAME_METHOD, exact_power, false_flips, simulated_power, step_down

from mrirecon.errors import InputError
from mrirecon.evaluation.stats import decidable_seeds, require_decidable, sign_flip_max_t, smallest_p
from mrirecon.evaluation.stats.flips import MAX_FLIPS


def family(n_comparisons, n_seeds, seed=0, effect=0.8):
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal(n_seeds)
    return rng.standard_normal((n_comparisons, n_seeds)) - reference + effect * np.arange(n_comparisons)[:, None]


@pytest.mark.parametrize("n_seeds", [2, 6, 9, 12])
def test_one_comparison_equals_scipy(n_seeds):
    for seed in range(5):
        d = family(1, n_seeds, seed)
        mine = sign_flip_max_t(d)
        test = stats.permutation_test((d[0],), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert mine.p == mine.p_family == pytest.approx((test.pvalue,), rel=1e-12)


@pytest.mark.parametrize(("n_comparisons", "n_seeds"), [(2, 6), (3, 7), (5, 6)])
def test_a_family_equals_the_book(n_comparisons, n_seeds):
    for seed in range(5):
        d = np.round(3 * family(n_comparisons, n_seeds, seed))  # whole numbers: exact ties
        expected = step_down([tuple(map(int, column)) for column in d.T])
        assert sign_flip_max_t(d).p_family == pytest.approx(tuple(map(float, expected)), rel=1e-12)


def test_scale_sign_and_order_do_not_matter():
    d = family(4, 7)
    expected = sign_flip_max_t(d)
    assert sign_flip_max_t(d * np.array([[1e-9], [1e6], [-3], [1]])) == expected
    assert sign_flip_max_t(d[:, ::-1]) == expected
    assert sign_flip_max_t(d[::-1]).p_family == expected.p_family[::-1]


def test_adjustment_only_raises_and_keeps_the_order():
    test = sign_flip_max_t(family(6, 8))
    assert all(alone <= adjusted for alone, adjusted in zip(test.p, test.p_family, strict=True))
    by_evidence = sorted(range(6), key=lambda i: test.p[i])
    assert np.all(np.diff([test.p_family[i] for i in by_evidence]) >= 0)


def test_copies_of_a_comparison_cost_nothing():
    d = family(1, 8)
    assert sign_flip_max_t(np.repeat(d, 5, axis=0)).p_family == pytest.approx(sign_flip_max_t(d).p * 5)


def test_twenty_four_comparisons_can_all_be_found_at_six_seeds_where_holm_finds_none():
    d = 1 + 0.01 * np.random.default_rng(0).standard_normal((24, 6))
    test = sign_flip_max_t(d)
    assert test.p_family == (1 / 32,) * 24
    assert 24 * min(test.p) > 0.05


def test_differences_without_variance():
    test = sign_flip_max_t([[0.0] * 6, [0.3] * 6, [1, -1, 1, -1, 1, -1]])
    assert test.p == (1, 1 / 32, 1)
    assert test.p_family == (1, 2 / 32, 1)  # one other flip makes the third as constant as the second


def test_drawn_flips_are_close_to_all_flips():
    rng = np.random.default_rng(3)
    d = rng.standard_normal((1, 17)) + 0.4
    mine = sign_flip_max_t(d).p[0]
    exact = stats.permutation_test((d[0],), np.mean, permutation_type="samples", n_resamples=np.inf, batch=4096).pvalue
    assert mine == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / MAX_FLIPS))
    assert sign_flip_max_t(d) == sign_flip_max_t(d) != sign_flip_max_t(d, seed=1)


@pytest.mark.parametrize("n_seeds", [1, 2, 5, 6, 10, 15, 16, 40])
def test_smallest_p_is_attained(n_seeds):
    assert sign_flip_max_t(np.ones((3, n_seeds))).p_family == (smallest_p(n_seeds),) * 3
    assert smallest_p(n_seeds) == (2 / 2**n_seeds if n_seeds <= 15 else 1 / (MAX_FLIPS + 1))


def test_a_family_that_cannot_reach_alpha_is_refused():
    with pytest.raises(
        InputError, match=r"5 paired seeds cannot reach p <= 0.05 \(smallest p 0.062\); give at least 6"
    ):
        require_decidable(5)
    with pytest.raises(InputError, match="give at least 8 patients"):
        require_decidable(7, 0.01, "patients")
    with pytest.raises(InputError, match="alpha 0"):
        require_decidable(6, 0)
    require_decidable(6)


@pytest.mark.parametrize("alpha", [0.5, 0.25, 0.05, 1 / 32, 0.01, 1e-3, 1 / 2**14])
def test_fewest_decidable_seeds(alpha):
    fewest = decidable_seeds(alpha)
    require_decidable(fewest, alpha)
    with pytest.raises(InputError):
        require_decidable(fewest - 1, alpha)


@pytest.mark.parametrize("d", [[1.0, 2], np.zeros((0, 3)), [[1, math.nan]]])
def test_wrong_input_is_named(d):
    with pytest.raises(InputError, match="give finite numbers"):
        sign_flip_max_t(d)


@pytest.mark.parametrize(("setting", "exact"), [(SAME_METHOD[0], 1 / 32), (SAME_METHOD[1], 25 / 512)])
def test_false_findings_of_a_family_are_as_many_as_the_flips_say(setting, exact):
    n = 2000
    assert false_flips(setting, n, seed=1) == pytest.approx(exact, abs=3 * math.sqrt(exact * (1 - exact) / n))


@pytest.mark.parametrize(
    ("outcomes", "n_seeds"), [pytest.param(*p, marks=pytest.mark.slow) if p[1] > 8 else p for p in POWERS]
)
def test_power_equals_the_exact_power(outcomes, n_seeds):
    assert simulated_power(outcomes, n_seeds, 4000, seed=1) == pytest.approx(exact_power(outcomes, n_seeds), abs=0.03)


def test_the_book_by_hand():
    # two seeds: flips (+,+) and (+,-), each with its mirror image
    assert step_down([(3, 1), (1, 1)]) == [Fraction(1, 2), Fraction(1, 2)]
    assert step_down([(1, 1), (0, 1)]) == [1, Fraction(1, 2)]
