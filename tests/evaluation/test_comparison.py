"""Comparisons, alone and in a family: numbers, verdicts, words."""

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats
from simulated_studies import SAME_METHOD, SHARES, ZERO_ON_AVERAGE, Setting, false_flips, false_wins, scores

from mrirecon.errors import InputError
from mrirecon.evaluation import Comparison, paired_comparison
from mrirecon.evaluation.stats import (
    BETTER,
    EQUIVALENT,
    INCONCLUSIVE,
    WORSE,
    by_patient,
    compare_family,
    crossed_bootstrap,
    crossed_effect,
    in_words,
    sign_flip_max_t,
)

PATIENTS = [f"p{i // 2}" for i in range(20)]
SEED_NOISE = Setting("seeds", 8, 20, SHARES["seeds"])


def table(mean=0.0, sd=1.0, setting=SEED_NOISE, seed=0):
    return mean + sd * scores(np.random.default_rng(seed), setting, 1)[0]


def compare(d, **options):
    options = {"metric": "ssim", "better": "higher"} | options
    return compare_family({"one": d}, PATIENTS[: np.shape(d)[1]], **options)[0]


def family(**options):
    named = {"far": table(8, seed=1), "near": table(0.2, seed=2), "below": table(-6, seed=3)}
    return named, compare_family(named, PATIENTS, **({"metric": "ssim", "better": "higher"} | options))


def test_a_family_gathers_what_the_parts_say():
    named, compared = family(margin=0.5, seed=4)
    units = {name: by_patient(d, PATIENTS) for name, d in named.items()}
    flips = sign_flip_max_t([d.mean(axis=1) for d in units.values()])
    assert [c.name for c in compared] == list(named)
    assert tuple(c.p for c in compared) == flips.p
    assert tuple(c.p_family for c in compared) == flips.p_family
    for c, d in zip(compared, units.values(), strict=True):
        effect = crossed_effect(d)
        assert (c.effect, c.low, c.high, c.df) == (effect.mean, effect.low, effect.high, effect.df)
        assert (c.low_family, c.high_family) == pytest.approx(effect.interval(1 - 0.05 / 3))
        assert (c.bootstrap_low, c.bootstrap_high) == crossed_bootstrap(d, seed=4)
        assert (c.n_seeds, c.n_volumes, c.n_patients, c.n_comparisons) == (8, 20, 10, 3)
        assert c.superiority == (d.mean(axis=1) > 0).mean()
    assert [c.verdict for c in compared] == [BETTER, INCONCLUSIVE, WORSE]


def test_lower_is_better_turns_the_verdict_only():
    _, high = family()
    _, low = family(better="lower")
    assert [c.verdict for c in low] == [WORSE, INCONCLUSIVE, BETTER]
    assert [c.superiority for c in low] == pytest.approx([1 - c.superiority for c in high])
    assert [c.effect for c in low] == [c.effect for c in high]


def test_swapping_the_methods_turns_everything():
    d = table(3)
    c, turned = compare(d), compare(-d)
    assert (c.verdict, turned.verdict) == (BETTER, WORSE)
    assert (turned.effect, turned.low_family, turned.high_family) == pytest.approx(
        (-c.effect, -c.high_family, -c.low_family)
    )
    assert (turned.p, turned.mde) == pytest.approx((c.p, c.mde))


def test_a_difference_within_the_margin_is_none_however_sure():
    sure = table(0.1, sd=0.01)
    assert compare(sure).verdict == compare(sure, margin=0.05).verdict == BETTER
    c = compare(sure, margin=0.5)
    assert (c.verdict, c.seeds_needed) == (EQUIVALENT, None)
    assert c.tost_p < 0.05


def test_a_difference_below_the_detectable_one_is_not_called():
    # over seeds alone: significant at .05, yet smaller than what is found with 80 % power
    rows = stats.zscore(np.random.default_rng(0).standard_normal(10), ddof=1)
    values = rows + 2.5 / math.sqrt(10)
    c = compare(np.repeat(values[:, None], 4, axis=1))
    assert stats.ttest_1samp(values, 0).pvalue < 0.05
    assert c.p <= 0.05
    assert c.low > 0
    assert c.mde > c.effect
    assert (c.verdict, c.generalizes) == (INCONCLUSIVE, "seeds")
    assert c.seeds_needed > 10


def test_too_few_seeds_are_never_called_and_need_six():
    c = compare(table(50)[:5])
    assert (c.p, c.verdict, c.seeds_needed) == (1 / 16, INCONCLUSIVE, 6)


def test_patients_that_differ_are_not_settled_by_seeds():
    setting = Setting("volumes", 10, 20, (0.01, 0.98, 0.01))
    c = compare(table(0.1, setting=setting), margin=0.01)
    assert (c.verdict, c.seeds_needed) == (INCONCLUSIVE, None)
    assert "not even 1000 seeds alone would settle it" in in_words(c, "a", "b")


@pytest.mark.parametrize(("mean", "margin", "settled_as"), [(0.9, None, BETTER), (0.1, 0.6, EQUIVALENT)])
def test_the_number_of_seeds_that_would_settle_it_does(mean, margin, settled_as):
    setting = Setting("seeds", 6, 20, (0.9, 0.02, 0.0))
    patients = [str(i) for i in range(20)]
    rows = stats.zscore(np.random.default_rng(0).standard_normal(6), ddof=1)[:, None]
    columns = stats.zscore(np.random.default_rng(1).standard_normal(20), ddof=1)
    d = mean + math.sqrt(0.9) * rows + math.sqrt(0.02) * columns  # the estimates are the truth
    options = {"metric": "ssim", "better": "higher", "margin": margin}
    c = compare_family({"": d}, patients, **options)[0]
    assert (c.verdict, c.effect) == (INCONCLUSIVE, pytest.approx(mean))
    further = mean + scores(np.random.default_rng(2), setting._replace(n_seeds=c.seeds_needed), 100)
    verdicts = [compare_family({"": x}, patients, **options)[0].verdict for x in further]
    assert 0.8 - 3 * 0.04 <= verdicts.count(settled_as) / 100 <= 0.95  # standard error 0.04


def test_a_single_run_is_tested_over_patients():
    d = table(3)[:1]
    c = compare(d)
    expected = stats.permutation_test(
        (by_patient(d, PATIENTS)[0],), np.mean, permutation_type="samples", n_resamples=1e9
    )
    assert c.p == pytest.approx(expected.pvalue)
    assert (c.verdict, c.generalizes, c.n_seeds) == (BETTER, "volumes", 1)
    assert "of these single runs" in in_words(c, "a", "b")


def test_equal_scores_are_no_difference():
    zeros = np.zeros((6, 20))
    c = compare(zeros)
    assert (c.effect, c.p, c.superiority, c.verdict, c.seeds_needed) == (0, 1, 0.5, INCONCLUSIVE, None)
    assert compare(zeros, margin=0.1).verdict == EQUIVALENT
    assert compare(zeros + 1).verdict == BETTER


def test_repeating_volumes_of_a_patient_adds_no_certainty():
    d = table(3)[:, ::2]
    once = compare_family({"": d}, PATIENTS[::2], metric="ssim", better="higher")[0]
    thrice = compare_family({"": np.tile(d, 3)}, PATIENTS[::2] * 3, metric="ssim", better="higher")[0]
    assert (thrice.low, thrice.high, thrice.p) == pytest.approx((once.low, once.high, once.p))
    assert (thrice.n_volumes, thrice.n_patients) == (30, 10)


@pytest.mark.parametrize(("metric", "better"), [("ssim", "higher"), ("psnr", "higher"), ("nmse", "lower")])
def test_a_pair_is_a_family_of_one(metric, better):
    a, b = table(5), table(0, seed=1)
    pair = paired_comparison(a, b, PATIENTS, metric=metric, name="one")
    assert isinstance(pair, Comparison)
    assert pair == compare(a - b, metric=metric, better=better)
    assert (pair.low, pair.high, pair.p) == (pair.low_family, pair.high_family, pair.p_family)
    assert paired_comparison(a[0], b[0], PATIENTS, metric=metric).n_seeds == 1


def test_plain_numbers_for_json():
    _, compared = family(margin=0.5)
    for c in compared:
        assert json.loads(json.dumps(asdict(c), allow_nan=False)) == asdict(c)


def test_words_say_all_of_it():
    _, (far, near, _) = family(margin=0.5)
    words = in_words(far, "adam/group", "sgd/batch")
    assert words.startswith(
        f"SSIM: adam/group is better than sgd/batch, {far.effect:+.3g} (95 % interval {far.low:+.3g}"
    )
    assert words.endswith("8 paired seeds, 20 volumes of 10 patients): BETTER.")
    assert f"sign-flip p = {far.p:.2g}, in 3 comparisons p = {far.p_family:.2g}" in words
    words = in_words(near, "a", "b")
    assert "a is not shown to differ from b" in words
    assert f"minimum detectable difference {near.mde:.3g}; about {near.seeds_needed} seeds would settle it." in words


def test_words_of_the_other_verdicts():
    assert "a is worse than b, -3" in in_words(compare(table(0, 0.01) - 3), "a", "b")
    same = in_words(compare(table(0, 0.01), margin=0.5, metric="psnr"), "a", "b")
    assert same.startswith("PSNR: a is as good as b, ")
    assert same.endswith("): EQUIVALENT, within 0.5 dB (equivalence p < 0.001).")
    few = in_words(compare(table(50)[:5]), "a", "b")
    assert "5 seeds cannot go below p = 0.062, about 6 seeds would settle it" in few
    noisy = replace(compare(table(3)[:1]), verdict=INCONCLUSIVE)
    assert "one run of each says nothing about other seeds" in in_words(noisy, "a", "b")
    fixed = in_words(compare(table(3)[:, :6]), "a", "b")  # three patients
    assert fixed.endswith("BETTER, on these patients.")
    assert "over seeds;" in fixed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"better": "more"}, "ssim: 'more' values are better; say 'higher' or 'lower'"),
        ({"margin": 0}, "equivalence margin 0"),
        ({"margin": math.nan}, "equivalence margin nan"),
        ({"alpha": 1}, "alpha 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        compare(table(), **options)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, "these seeds: none"),
        ({"x": table(), "y": table()[:6]}, "these seeds: x 8, y 6"),
        ({"x": table()[:, :4]}, r"x: differences of shape \(8, 4\) for 20 patients"),
        ({"x": table() * math.nan}, "x: 160 of 160 differences are not finite"),
    ],
)
def test_families_that_do_not_fit_are_named(named, message):
    with pytest.raises(InputError, match=message):
        compare_family(named, PATIENTS, metric="ssim", better="higher")


def test_pairs_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"shapes \(8, 20\) and \(1, 20\)"):
        paired_comparison(table(), table()[0], PATIENTS)
    with pytest.raises(InputError, match="speed: 'unknown' values are better"):
        paired_comparison(table(), table(), PATIENTS, metric="speed")


def test_neither_torch_nor_scipy_stats_is_loaded():
    code = "import sys, mrirecon.evaluation.stats; sys.exit(bool({'torch', 'scipy.stats'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def allowed(n):
    return 0.05 + 2 * math.sqrt(0.05 * 0.95 / n)


@pytest.mark.parametrize("setting", [*SAME_METHOD, *ZERO_ON_AVERAGE], ids=str)
def test_equal_methods_are_seldom_called_different(setting):
    assert false_wins(setting, 40, seed=1) <= allowed(40)


@pytest.mark.slow
@pytest.mark.parametrize("setting", [*SAME_METHOD, *ZERO_ON_AVERAGE], ids=str)
def test_equal_methods_are_seldom_called_different_in_1000_families(setting):
    assert false_wins(setting, 1000, seed=1) <= allowed(1000)


def test_patients_that_differ_fool_the_flips_alone_but_not_the_verdict():
    # why the interval has to agree: flips over seeds take the patients as they are
    setting = Setting("volumes", 10, 10, SHARES["volumes"])
    assert false_flips(setting, 300) > 0.3
    assert false_wins(setting, 40) <= allowed(40)
