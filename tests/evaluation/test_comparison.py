"""Comparisons, alone and in a family: what is paired with what, verdicts, words."""

import json
import math
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from simulated_studies import (
    AGAINST_ONE,
    NORMAL,
    REGIMES,
    Setting,
    equal_methods,
    false_equivalence,
    methods,
    said,
    widths_without_a_run,
)

from mrirecon.errors import InputError
from mrirecon.evaluation import Comparison, paired_comparison
from mrirecon.evaluation.stats import (
    BETTER,
    EQUIVALENT,
    NO_VERDICT,
    OWN_SEEDS,
    PAIRED,
    SEEDLESS,
    SINGLE,
    UNDECIDED,
    WORSE,
    Margin,
    Side,
    by_patient,
    compare_family,
    crossed_effect,
    half_width,
    in_words,
    judge,
    p_value,
    sample,
    sign_flip_p,
)
from mrirecon.evaluation.stats.crossed import Parts, paired_parts

PATIENTS = [f"p{i // 2}" for i in range(20)]
SETTING = Setting("seeds", NORMAL, 8, 20)
IN_FILE = Margin(0.5, "0.5 of the grid file, set before the runs")
LATE = Margin(0.5, "chosen when reading", is_late=True)


def table(mean=0.0, sd=1.0, setting=SETTING, seed=0):
    return mean + sd * methods(np.random.default_rng(seed), setting, 1, 1)[0, 0]


def pair(a, b=None, name="one", patients=None, seeds=None):
    b = np.zeros_like(a) if b is None else b
    patients = PATIENTS[: a.shape[1]] if patients is None else patients
    return sample(name, [Side(a, seeds or range(len(a))), Side(b, seeds or range(len(b)), -1)], patients)


def compare(a, b=None, *, patients=None, **options):
    options = {"metric": "ssim", "better": "higher"} | options
    return compare_family([pair(a, b, patients=patients)], **options)[0]


def exactly(low, high):
    """Parts of which the 95 % interval is [low, high], by the quantile of many seeds."""
    half = (high - low) / 2
    seeds = np.array([(half / 1.9599639845400545) ** 2])
    return Parts(np.array((low + high) / 2), seeds, 0 * seeds, np.array(0.0), np.array([10**9]), np.array(1))


@pytest.mark.parametrize(
    ("low", "high", "verdict", "size"),
    [
        (1.1, 5, BETTER, "by more than the margin"),
        (0.1, 5, BETTER, "size open"),
        (0.1, 0.9, EQUIVALENT, "better, by less than the margin"),
        (-0.9, 0.9, EQUIVALENT, ""),
        (-0.9, 0.05, EQUIVALENT, ""),
        (-0.9, 5, UNDECIDED, "not worse by more than the margin"),
        (-5, 5, UNDECIDED, ""),
    ],
)
def test_verdicts_are_read_off_the_interval(low, high, verdict, size):
    parts, turned = exactly(low, high), exactly(-high, -low)
    assert judge(parts, "higher", 1.0)[2:] == (verdict, size)
    assert judge(turned, "lower", 1.0)[2:] == (verdict, size)
    mirrored = {BETTER: WORSE}.get(verdict, verdict)
    words = size.replace("better", "x").replace("worse", "better").replace("x", "worse")
    assert judge(turned, "higher", 1.0)[2:] == (mirrored, words)
    without = judge(parts, "higher")
    assert without[2:] == (BETTER if low > 0 else UNDECIDED, "")


def test_the_verdict_never_contradicts_interval_or_p():
    rng = np.random.default_rng(3)
    d = np.concatenate([k * 0.1 + methods(rng, Setting("balanced", NORMAL, 10, 30), 200, 1)[:, 0] for k in range(8)])
    parts = paired_parts(d)
    for better in ("higher", "lower"):
        judged = judge(parts, better, 0.8, 8)
        p = p_value(parts, 8)
        outside = (judged.low > 0) | (judged.high < 0)
        assert ((p <= 0.05) == outside).all()
        is_sign = np.isin(judged.verdict, (BETTER, WORSE)) | np.char.endswith(judged.size, "by less than the margin")
        assert (is_sign == outside).all()
        within = (np.abs(judged.low) <= 0.8) & (np.abs(judged.high) <= 0.8)
        assert ((judged.verdict == EQUIVALENT) == within).all()
        assert set(judged.verdict) == {BETTER if better == "higher" else WORSE, EQUIVALENT, UNDECIDED}


def test_a_family_gathers_what_the_parts_say():
    tables = {"far": table(8, seed=1), "near": table(0.2, seed=2), "below": table(-6, seed=3)}
    compared = compare_family(
        [pair(d, name=name) for name, d in tables.items()], metric="ssim", better="higher", margin=IN_FILE
    )
    assert [c.name for c in compared] == list(tables)
    for c, d in zip(compared, tables.values(), strict=True):
        of_patients = by_patient(d, PATIENTS)
        alone = crossed_effect(of_patients, 1 - 0.05 / 3)
        assert (c.effect, c.low, c.high) == pytest.approx((alone.mean, alone.low, alone.high))
        assert c.p == pytest.approx(float(p_value(paired_parts(of_patients), 3)))
        assert c.p_these_patients == sign_flip_p(of_patients.mean(axis=1))
        assert (c.sd_seeds, c.sd_patients, c.sd_rest) == pytest.approx(alone[5:8])
        assert (c.n_seeds, c.n_volumes, c.n_patients, c.n_comparisons) == (8, 20, 10, 3)
    assert [c.verdict for c in compared] == [BETTER, UNDECIDED, WORSE]


def test_lower_is_better_turns_the_verdict_only():
    high, low = compare(table(8)), compare(table(8), better="lower")
    assert (high.verdict, low.verdict) == (BETTER, WORSE)
    assert (low.effect, low.low, low.high, low.p) == (high.effect, high.low, high.high, high.p)


def test_an_interval_no_wider_than_the_margin_always_decides():
    for low in np.linspace(-3, 3, 121):
        assert judge(exactly(low, low + 0.999), "higher", 1.0).verdict != UNDECIDED


def test_only_an_undecided_comparison_names_designs():
    d = 0.3 + methods(np.random.default_rng(0), Setting("balanced", NORMAL, 6, 20), 1, 1)[0, 0]
    patients = [str(i) for i in range(20)]
    c = compare(d, margin=Margin(0.4, "of the grid file"), patients=patients)
    assert c.verdict == UNDECIDED
    assert all(n_seeds > 6 or n_patients > 20 for n_seeds, n_patients in c.designs)
    assert c.designs
    assert compare(d, patients=patients).designs == compare(9 + d, margin=IN_FILE, patients=patients).designs == ()


# --- what is paired with what ---


def test_comparisons_pair_on_the_seeds_that_they_share():
    a, b = table(1), table(0, seed=1)
    full = sample("", [Side(a, range(8)), Side(b, range(8), -1)], PATIENTS)
    lost = sample("", [Side(a, range(8)), Side(b[[7, 6, 4, 2, 1]], [7, 6, 4, 2, 1], -1)], PATIENTS)
    kept = [1, 2, 4, 6, 7]
    same = sample("", [Side(a[kept], kept), Side(b[kept], kept, -1)], PATIENTS)
    assert (full.pairing, lost.pairing, full.n_seeds, lost.n_seeds) == (PAIRED, PAIRED, (8,), (5,))
    assert half_width(lost.parts, 0.05) == half_width(same.parts, 0.05)
    assert lost.over == full.over == "seeds and patients"


@pytest.mark.parametrize("regime", REGIMES)
def test_losing_a_run_does_not_narrow_the_interval(regime):
    full, lost = widths_without_a_run(Setting(regime, NORMAL, 10, 10), 1000, seed=0)
    assert lost >= full


def test_seeds_that_do_not_match_keep_their_spread():
    a, b = table(1), table(0, seed=1)
    own = sample("", [Side(a, range(8)), Side(b, range(8, 16), -1)], PATIENTS)
    assert (own.pairing, own.n_seeds, own.over, own.refused) == (OWN_SEEDS, (8, 8), "seeds and patients", "")
    patients_alone = crossed_effect((by_patient(a, PATIENTS) - by_patient(b, PATIENTS)).mean(axis=0)[None])
    assert half_width(own.parts, 0.05) > 2 * (patients_alone.high - patients_alone.mean)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_fewer_than_five_seeds_get_an_interval_and_no_verdict(n):
    c = compare(table(50)[:n])
    assert (c.verdict, c.pairing) == (NO_VERDICT, OWN_SEEDS)
    assert f"{n} seeds say too little about others: a verdict takes 5 of each" in in_words(c, "a", "b")
    assert c.low < c.effect < c.high
    assert compare(table(50)[:5]).verdict == BETTER


def test_one_run_of_each_is_no_verdict_about_methods():
    c = compare(table(3)[:1], table(0, seed=1)[:1])
    assert (c.verdict, c.pairing, c.over) == (NO_VERDICT, SINGLE, "patients")
    assert "this run of a scored higher than this run of b" in in_words(c, "a", "b")
    one_of_many = sample("", [Side(table(3), range(8)), Side(table(0, seed=1)[:1], [0], -1)], PATIENTS)
    assert one_of_many.pairing == SINGLE
    words = in_words(compare_family([one_of_many], metric="ssim", better="higher")[0], "a", "b")
    assert "in these runs a scored higher than b" in words
    assert "8 and 1 seeds" in words
    assert "NO VERDICT, since one run says nothing about other seeds of its method" in words


def test_a_method_without_seeds_takes_part_as_it_is():
    a, fixed = table(3), table(0, seed=1)[:1]
    against = sample("", [Side(a, range(8)), Side(fixed, None, -1)], PATIENTS)
    assert (against.pairing, against.n_seeds) == (PAIRED, (8,))
    expected = half_width(paired_parts(by_patient(a - fixed, PATIENTS)), 0.05)
    assert half_width(against.parts, 0.05) == pytest.approx(expected)
    both = sample("", [Side(a[:1], None), Side(fixed, None, -1)], PATIENTS)
    assert (both.pairing, both.over, both.refused) == (SEEDLESS, "patients", "")
    assert compare_family([both], metric="ssim", better="higher")[0].verdict == BETTER


def test_another_method_changes_no_comparison_but_its_share_of_alpha():
    samples = [pair(table(3, seed=i), name=str(i)) for i in range(4)]
    three = compare_family(samples[:3], metric="ssim", better="higher", n_comparisons=4)
    four = compare_family(samples, metric="ssim", better="higher")
    assert three == four[:3]


def test_seeds_that_share_a_tuning_draw_are_one_unit():
    a = table(3)
    drawn = sample("", [Side(a, range(8), 1.0, [0, 1] * 4), Side(0 * a, range(8), -1.0, [0, 1] * 4)], PATIENTS)
    assert (drawn.unit, drawn.n_seeds) == ("tuning draw", (2, 2))
    assert drawn.refused.startswith("2 tuning draws say too little")
    ten = np.concatenate([a, a + 0.1])[:10]
    fives = [0, 1, 2, 3, 4] * 2
    of_five = sample("", [Side(ten, range(10), 1, fives), Side(0 * ten, range(10), -1, fives)], PATIENTS)
    assert (of_five.pairing, of_five.n_seeds, of_five.refused) == (PAIRED, (5,), "")
    expected = paired_parts(by_patient((ten[:5] + ten[5:]) / 2, PATIENTS))
    assert half_width(of_five.parts, 0.05) == pytest.approx(half_width(expected, 0.05))
    assert "5 paired tuning draws" in in_words(compare_family([of_five], metric="ssim", better="higher")[0], "a", "b")


def test_one_patient_says_nothing_about_others():
    c = compare(table(3)[:, :2], patients=["p", "p"])
    assert (c.verdict, c.over) == (NO_VERDICT, "seeds")
    with pytest.raises(InputError, match="one run of each and one patient"):
        compare(table(3)[:1, :2], patients=["p", "p"])


def test_columns_that_are_no_sample_leave_the_interval_to_the_seeds():
    d = table(3)[:, :1]
    times = sample("", [Side(d, range(8)), Side(0 * d, range(8), -1)], None)
    c = compare_family([times], metric="steps", better="lower")[0]
    assert (c.over, c.verdict) == ("seeds", WORSE)


def test_equal_scores_are_no_difference():
    zeros = np.zeros((6, 20))
    c = compare(zeros)
    assert (c.effect, c.p, c.superiority, c.verdict) == (0, 1, 0.5, UNDECIDED)
    assert compare(zeros, margin=IN_FILE).verdict == EQUIVALENT
    assert compare(zeros + 1).verdict == BETTER


def test_repeating_volumes_of_a_patient_adds_no_certainty():
    d = table(3)[:, ::2]
    once, thrice = compare(d, patients=PATIENTS[::2]), compare(np.tile(d, 3), patients=PATIENTS[::2] * 3)
    assert (thrice.low, thrice.high, thrice.p) == pytest.approx((once.low, once.high, once.p))
    assert (thrice.n_volumes, thrice.n_patients) == (30, 10)


@pytest.mark.parametrize(("metric", "better"), [("ssim", "higher"), ("psnr", "higher"), ("nmse", "lower")])
def test_a_pair_is_a_family_of_one(metric, better):
    a, b = table(5), table(0, seed=1)
    alone = paired_comparison(a, b, PATIENTS, metric=metric, name="one")
    assert isinstance(alone, Comparison)
    assert (alone.low, alone.high, alone.p) == pytest.approx(
        tuple(getattr(compare(a, b, metric=metric, better=better), key) for key in ("low", "high", "p"))
    )
    assert paired_comparison(a[0], b[0], PATIENTS, metric=metric).verdict == NO_VERDICT


def test_plain_numbers_for_json():
    for c in (compare(table(8), margin=IN_FILE), compare(table(8)[:1], table()[:1])):
        plain = asdict(c)
        known = {key: value for key, value in plain.items() if value == value}
        assert json.loads(json.dumps(known, allow_nan=False)) == json.loads(json.dumps(known))


# --- words ---


def test_words_say_all_of_it():
    far, near = table(8, seed=1), table(0.2, seed=2)
    samples = [pair(far, name="far"), pair(near, name="near")]
    c, other = compare_family(samples, metric="ssim", better="higher", margin=IN_FILE)
    assert in_words(c, "adam/group", "sgd/batch") == (
        f"SSIM: adam/group is better than sgd/batch, {c.effect:+.3g} (95 % simultaneous interval {c.low:+.3g} to "
        f"{c.high:+.3g} over seeds and patients, p {'< 0.001' if c.p < 0.001 else f'= {c.p:.2g}'} in 2 comparisons; 8 "
        "paired seeds, 20 volumes of 10 patients): BETTER, by more than 0.5; margin 0.5, 0.5 of the grid file, set "
        "before the runs."
    )
    words = in_words(other, "a", "b")
    assert "a is not shown to differ from b" in words
    assert "UNDECIDED; would always decide: " in words
    assert " seeds x " in words


def test_words_of_the_other_verdicts():
    assert "a is worse than b, -3" in in_words(compare(table(-3, 0.01)), "a", "b")
    same = in_words(compare(table(0, 0.01), margin=IN_FILE, metric="psnr"), "a", "b")
    assert same.startswith("PSNR: a is as good as b, ")
    assert same.endswith("): EQUIVALENT, within 0.5 dB (0.5 of the grid file, set before the runs).")
    little = table(0.2, 0.01)
    assert in_words(compare(little, margin=IN_FILE), "a", "b").endswith(
        "): EQUIVALENT, within 0.5, and better, by less than 0.5 (0.5 of the grid file, set before the runs)."
    )
    late = in_words(compare(little, margin=LATE), "a", "b")
    assert late.endswith("): better, by less than 0.5 (EQUIVALENT, within 0.5) (chosen when reading).")
    few = in_words(compare(table(30)[:, :6]), "a", "b")
    assert "20 volumes" not in few
    assert "6 volumes of 3 patients, few patients)" in few


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"better": "more"}, "ssim: 'more' values are better; say 'higher' or 'lower'"),
        ({"margin": Margin(0, "")}, "equivalence margin 0"),
        ({"margin": Margin(math.nan, "")}, "equivalence margin nan"),
        ({"alpha": 1}, "alpha 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        compare(table(), **options)


def test_tables_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"x: 160 of 160 differences are not finite"):
        pair(table() * math.nan, name="x")
    with pytest.raises(InputError, match=r"shape \(8, 4\) for 20 patients"):
        pair(table()[:, :4], patients=PATIENTS)
    with pytest.raises(InputError, match="a family without comparisons"):
        compare_family([], metric="ssim", better="higher")
    with pytest.raises(InputError, match=r"shapes \(8, 20\) and \(1, 20\)"):
        paired_comparison(table(), table()[0], PATIENTS)
    with pytest.raises(InputError, match="speed: 'unknown' values are better"):
        paired_comparison(table(), table(), PATIENTS, metric="speed")


def test_neither_torch_nor_scipy_stats_is_loaded():
    code = "import sys, mrirecon.evaluation.stats; sys.exit(bool({'torch', 'scipy.stats'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- false findings; scripts/prove_statistics.py has all regimes ---


def allowed(n):
    return 0.05 + 2 * math.sqrt(0.05 * 0.95 / n)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("shape", [(5, 3), (6, 10), (10, 50)])
def test_equal_methods_are_seldom_called_different(regime, shape):
    setting = Setting(regime, NORMAL, *shape)
    assert equal_methods(setting, AGAINST_ONE, 400, seed=1, margin=setting.se).false_findings <= allowed(400)
    assert false_equivalence(setting, 3 * setting.se, 400, seed=1) <= allowed(400)


def test_families_at_once_say_what_the_reports_say():
    setting = Setting("balanced", NORMAL, 6, 10)
    scores = methods(np.random.default_rng(0), setting, 20)
    scores[:, 3] += 1.5
    parts = paired_parts(scores[:, 1:] - scores[:, :1])
    judged = judge(parts, "higher", 0.5, 8)
    for i in range(20):
        compared = said(scores[i], IN_FILE)
        assert [c.verdict for c in compared] == judged.verdict[i].tolist()
        assert [c.size for c in compared] == judged.size[i].tolist()
        assert [c.low for c in compared] == pytest.approx(judged.low[i].tolist())
