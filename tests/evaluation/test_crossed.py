"""The interval over seeds and patients, and the p value of the same interval."""

import math

import numpy as np
import pytest
from interval_by_hand import half_by_hand, half_of
from scipy import stats
from simulated_studies import NORMAL, PATIENTS, REGIMES, SEEDS, Setting, equal_methods, methods, unmatched

from mrirecon.errors import InputError
from mrirecon.evaluation.stats import by_draw, by_patient, crossed_effect, half_width, p_value
from mrirecon.evaluation.stats.crossed import nested_parts, paired_parts


def table(n_seeds=6, n_patients=9, sds=(1.0, 0.7, 0.5), seed=0):
    rng = np.random.default_rng(seed)
    parts = (
        rng.standard_normal((n_seeds, 1)),
        rng.standard_normal((1, n_patients)),
        rng.standard_normal((n_seeds, n_patients)),
    )
    return 0.4 + sum(sd * part for sd, part in zip(sds, parts, strict=True))


def test_equals_the_two_way_table_by_hand():
    # mean squares of a 3 x 5 table: rows 50, columns 10, residual 2
    rows, columns = np.array([-1.0, 0, 1]) * math.sqrt(10), np.array([-2.0, -1, 0, 1, 2]) * math.sqrt(4 / 3)
    residual = np.outer([1.0, -1, 0], [1.0, -1, 1, -1, 0]) * math.sqrt(2)
    effect = crossed_effect(7 + rows[:, None] + columns + residual)
    half = half_of([(50 / 15, 3), (10 / 15, 5)], 2 / 15)
    assert (effect.mean, effect.n_seeds, effect.n_patients) == (pytest.approx(7), 3, 5)
    assert (effect.low, effect.high) == pytest.approx((7 - half, 7 + half))
    assert (effect.sd_seeds, effect.sd_patients) == pytest.approx((math.sqrt(48 / 5), math.sqrt(8 / 3)))
    assert effect.sd_rest == pytest.approx(math.sqrt(2))
    assert effect.over == "seeds and patients"


@pytest.mark.parametrize(("n_seeds", "n_patients"), [(2, 2), (5, 3), (6, 40), (20, 10)])
@pytest.mark.parametrize("sds", [(1.0, 0.1, 0.2), (0.1, 1.0, 0.2), (0.0, 0.0, 1.0)])
def test_every_table_by_sums_of_squares(n_seeds, n_patients, sds):
    d = table(n_seeds, n_patients, sds)
    for alpha in (0.2, 0.05, 0.05 / 36):
        assert half_width(paired_parts(d), alpha) == pytest.approx(half_by_hand(d, alpha))


def test_without_variance_between_patients_equals_the_t_test_over_seeds():
    d = np.repeat(table()[:, :1], 12, axis=1)
    effect, expected = crossed_effect(d), stats.ttest_1samp(d[:, 0], 0).confidence_interval()
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    assert p_value(paired_parts(d)) == pytest.approx(stats.ttest_1samp(d[:, 0], 0).pvalue)


@pytest.mark.parametrize(("shape", "over"), [((1, 7), "patients"), ((7, 1), "seeds"), ((1, 2), "patients")])
def test_one_seed_or_one_patient_is_the_t_test_over_the_other(shape, over):
    d = table(*shape)
    effect, expected = crossed_effect(d, 0.9), stats.ttest_1samp(d.ravel(), 0).confidence_interval(0.9)
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    assert effect.over == over
    assert math.isnan(effect.sd_seeds) == (shape[0] == 1)


def test_few_patients_make_it_wide_without_a_step():
    # patients that differ: four gave a tiny interval over seeds alone, five a wide one
    d = methods(np.random.default_rng(0), Setting("patients", NORMAL, 8, 40), 200, 1)[:, 0]
    widths = [float(half_width(paired_parts(d[..., :n]), 0.05).mean()) for n in range(2, 10)]
    assert widths == sorted(widths, reverse=True)
    assert widths[2] > widths[3] > 0.7 * widths[2]  # four and five


def test_p_is_the_level_at_which_the_interval_touches_0():
    parts = paired_parts(np.stack([table(seed=seed) for seed in range(50)]))
    for n in (1, 8, 36):
        p = p_value(parts, n)
        sure = p < 1
        touching = half_width(parts, p / n)
        assert touching[sure] == pytest.approx(np.abs(parts.mean)[sure], rel=1e-9)
        assert ((p <= 0.05) == (np.abs(parts.mean) > half_width(parts, 0.05 / n))).all()


def test_p_without_noise():
    assert p_value(paired_parts(np.full((6, 8), 0.25))) < 1e-29
    assert p_value(paired_parts(np.zeros((6, 8)))) == 1


def test_turned_shifted_scaled():
    d = table()
    effect, turned, moved = crossed_effect(d), crossed_effect(d.T), crossed_effect(100 - 3 * d)
    assert turned[:3] == pytest.approx(effect[:3])
    assert (turned.sd_seeds, turned.sd_patients) == pytest.approx((effect.sd_patients, effect.sd_seeds))
    assert (moved.low, moved.high) == pytest.approx((100 - 3 * effect.high, 100 - 3 * effect.low))


def test_families_of_tables_are_their_members():
    tables = np.stack([table(seed=seed) for seed in range(6)]).reshape(2, 3, 6, 9)
    half = half_width(paired_parts(tables), 0.01)
    assert half.shape == (2, 3)
    assert half[1, 2] == half_width(paired_parts(tables[1, 2]), 0.01)


@pytest.mark.parametrize(("n_a", "n_b", "n"), [(7, 4, 4 + 0.8 * (4 / 7) ** 2), (5, 5, 6), (20, 6, 6 + 1.2 * 0.3**2)])
def test_own_seeds_by_hand_have_the_degrees_of_freedom_of_few_more_than_the_fewest(n_a, n_b, n):
    # no variance between patients: two samples of runs
    a, b = np.repeat(table(n_a)[:, :1], 5, axis=1), np.repeat(table(n_b, seed=1)[:, :1], 5, axis=1)
    parts = nested_parts([a, b], [1, -1])
    variances = a[:, 0].var(ddof=1) / n_a, b[:, 0].var(ddof=1) / n_b
    for alpha in (0.05, 0.05 / 8):
        half = half_of([(variance, n) for variance in variances], 0, alpha)
        assert half_width(parts, alpha) == pytest.approx(half)
    assert parts.mean == pytest.approx(a.mean() - b.mean())


def test_many_own_seeds_without_patients_are_welchs_interval():
    a, b = np.repeat(table(300)[:, :1], 3, axis=1), np.repeat(table(200, sds=(2, 0, 0), seed=1)[:, :1], 3, axis=1)
    parts = nested_parts([a, b], [1, -1])
    expected = stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False).confidence_interval()
    half = half_width(parts, 0.05)
    assert (parts.mean - half, parts.mean + half) == pytest.approx((expected.low, expected.high), rel=1e-3)


def test_a_rest_alone_counts_once():
    # as many values as there are entries: the z interval of the mean of all of them
    d = np.random.default_rng(0).standard_normal((100, 400, 300))
    assert half_width(paired_parts(d), 0.05).mean() == pytest.approx(1.96 / math.sqrt(400 * 300), rel=0.02)


def test_at_a_small_level_squares_of_quantiles_are_summed():
    parts, alpha = paired_parts(table(6, 5)), 1e-9
    t = [stats.t.ppf(1 - alpha / 2, n - 1) for n in (6, 5)]
    summed = t[0] ** 2 * parts.seeds[0] + t[1] ** 2 * parts.patients
    assert half_width(parts, alpha) == pytest.approx(math.sqrt(summed), rel=1e-3)


def test_own_seeds_without_seeds_is_the_paired_t_test_over_patients():
    a, b = np.repeat(table()[:1], 6, axis=0), np.repeat(table(seed=1)[:1], 5, axis=0)
    expected = stats.ttest_rel(a[0], b[0]).confidence_interval()
    parts = nested_parts([a, b], [1, -1])
    half = half_width(parts, 0.05)
    assert (parts.mean - half, parts.mean + half) == pytest.approx((expected.low, expected.high))


def test_weights_of_own_seeds():
    a, b, c = table(), table(5, seed=1), table(7, seed=2)
    one, other = nested_parts([a, b, c], [1, -0.5, -0.5]), nested_parts([2 * a, -b, -c], [0.5, 0.5, 0.5])
    assert half_width(one, 0.05) == pytest.approx(half_width(other, 0.05))
    assert one.mean == pytest.approx(a.mean() - b.mean() / 2 - c.mean() / 2)


def test_pairing_narrows_what_seeds_share():
    setting = Setting("seeds", NORMAL, 8, 12)
    a, b = methods(np.random.default_rng(0), setting, 1, 2)[0]
    shared = 3 * np.random.default_rng(1).standard_normal((8, 1))
    paired = half_width(paired_parts(a - b), 0.05)
    assert paired == pytest.approx(half_width(paired_parts((a + shared) - (b + shared)), 0.05))
    assert half_width(nested_parts([a + shared, b + shared], [1, -1]), 0.05) > 2 * paired


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("n_seeds", SEEDS)
@pytest.mark.parametrize("n_patients", PATIENTS)
def test_coverage(regime, n_seeds, n_patients):
    found = equal_methods(Setting(regime, NORMAL, n_seeds, n_patients), ((1, 0),), 1500, seed=1).coverage
    assert 0.93 - 0.0113 <= found <= 0.97 + 0.0113  # two Monte Carlo errors


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("n_a", "n_b"), [(5, 5), (10, 9), (20, 6)])
@pytest.mark.parametrize("n_patients", [3, 20])
def test_coverage_with_seeds_that_do_not_match(regime, n_a, n_b, n_patients):
    found = unmatched(Setting(regime, NORMAL, n_b, n_patients), n_a, 1000, seed=1)
    assert 0.93 - 0.0080 <= found.coverage <= 0.97 + 0.0080
    assert found.false_findings <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)


def test_volumes_of_a_patient_are_averaged():
    d = np.array([[1.0, 2, 3, 4], [5, 6, 7, 9]])
    assert by_patient(d, ["b", "a", "b", "c"]).tolist() == [[2, 2, 4], [6, 6, 9]]


def test_seeds_of_a_draw_are_averaged():
    d = np.array([[1.0, 2], [3, 4], [5, 9]])
    assert by_draw(d, [1, 0, 1]).tolist() == [[3, 4], [3, 5.5]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: crossed_effect(np.zeros(5)), r"shape \(5,\)"),
        (lambda: crossed_effect(np.zeros((0, 5))), r"shape \(0, 5\)"),
        (lambda: crossed_effect([[1, math.nan], [1, math.inf]]), "2 of 4 differences are not finite"),
        (lambda: crossed_effect(np.zeros((1, 1))), "1 seed and 1 patient say too little"),
        (lambda: crossed_effect(np.zeros((2, 4)), 95), "confidence level 95"),
        (lambda: by_patient(np.zeros((2, 4)), ["a"]), r"shape \(2, 4\) for 1 patients"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
