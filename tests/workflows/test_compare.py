"""`compare`: cells of seeds, statistics against scipy, what the verdict repeats."""

import csv
import json
import math

import numpy as np
import pytest
from finished_runs import NAME, make_run, make_seeds, of, run, scored, write_table
from interval_by_hand import half_by_hand
from result_rows import changed_row, foreign_row
from scipy import stats

from mrirecon.config import DataConfig, EvaluateConfig, OptimizerConfig, ScoreConfig
from mrirecon.errors import InputError
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.score import score
from mrirecon.workflows.train import train


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Runs are called by short names."""
    monkeypatch.chdir(tmp_path)


def flipped_p(values):
    """Two-sided sign-flip p value of a mean, all flips."""
    result = stats.permutation_test(
        (values,), lambda x, axis=-1: np.abs(x.mean(axis=axis)), permutation_type="samples", alternative="greater",
        n_resamples=np.inf,
    )  # fmt: skip
    return result.pvalue


def test_one_run_of_each_says_which_run_scored_higher_and_nothing_of_methods(tmp_path):
    a, b = scored(1), scored(2, mean=0.83)
    make_run(tmp_path, "adam", a, of("adam"))
    make_run(tmp_path, "sgd", b, of("sgd"))
    result = run(["adam", "sgd"])
    for metric in ("ssim", "psnr", "nmse"):
        d = np.array([getattr(y, metric) - getattr(x, metric) for x, y in zip(a, b, strict=True)])
        (c,) = result["comparisons"][metric]
        interval = stats.ttest_1samp(d, 0).confidence_interval(0.95)
        assert c["effect"] == pytest.approx(d.mean(), rel=1e-12)
        assert (c["low"], c["high"]) == pytest.approx(tuple(interval), rel=1e-10)
        assert c["p"] == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=1e-9)
        assert (c["verdict"], c["pairing"], c["over"]) == ("NO VERDICT", "one run of each", "patients")
    assert "SSIM: this run of sgd scored higher than this run of adam" in result["paragraph"]
    assert "one run says nothing about other seeds of its method" in result["paragraph"]
    assert "one run of each, 8 volumes of 8 patients" in result["paragraph"]
    assert [item["seeds"] for item in result["items"]] == [[0], [0]]


def test_runs_that_differ_in_their_seed_alone_are_one_cell_paired_by_seed(tmp_path):
    seeds = range(7)
    adam, x = make_seeds(tmp_path, "adam", seeds, 0.8)
    sgd, y = make_seeds(tmp_path, "sgd", seeds, 0.85)
    rng = np.random.default_rng(0)
    result = run([adam[3], *rng.permutation(adam[:3] + adam[4:] + sgd).tolist()])
    d = y - x
    (c,) = result["comparisons"]["ssim"]
    assert (c["pairing"], c["over"]) == ("paired seeds", "seeds and patients")
    assert [(item["name"], item["seeds"]) for item in result["items"]] == [
        ("adam", list(seeds)),
        ("sgd", list(seeds)),
    ]
    assert (c["n_seeds"], c["n_volumes"], c["n_patients"]) == (7, 8, 8)
    assert c["effect"] == pytest.approx(d.mean(), rel=1e-12)
    assert c["high"] - c["effect"] == pytest.approx(half_by_hand(d), rel=1e-9)
    assert c["p_these_patients"] == pytest.approx(flipped_p(d.mean(axis=1)), abs=1e-12)
    assert result["items"][1]["ssim"]["mean"] == pytest.approx(y.mean(), rel=1e-12)
    assert result["items"][1]["ssim"]["sd_seeds"] == pytest.approx(y.mean(axis=1).std(ddof=1), rel=1e-12)
    assert c["verdict"] == "BETTER"
    assert c["margin"] is None  # none is the default
    assert "7 paired seeds" in result["paragraph"]
    assert "spread between" not in result["paragraph"]
    assert "The trainings differ in optimizer.name (adam; sgd). Each took 200 steps x 2 slices." in result["paragraph"]


def test_seeds_that_do_not_pair_keep_their_spread_and_below_five_have_no_verdict(tmp_path):
    adam, x = make_seeds(tmp_path, "adam", (0, 1, 2), 0.8)
    sgd, y = make_seeds(tmp_path, "sgd", (3, 4), 0.85)
    result = run([*adam, *sgd])
    patients_alone = stats.ttest_1samp(y.mean(axis=0) - x.mean(axis=0), 0).confidence_interval()
    (c,) = result["comparisons"]["ssim"]
    assert (c["pairing"], c["over"], c["verdict"]) == ("seeds of each", "seeds and patients", "NO VERDICT")
    assert c["low"] < patients_alone.low < patients_alone.high < c["high"]
    text = result["paragraph"]
    assert "2 and 3 seeds, not paired" in text
    assert "2 seeds say too little about others: a verdict takes 5 of each" in text


def test_a_lost_run_changes_neither_estimand_nor_formula_and_another_method_nothing(tmp_path):
    # one run less narrowed the interval to that of these trainings; so did a run of an unrelated method
    adam, x = make_seeds(tmp_path, "adam", range(6), 0.8)
    sgd, y = make_seeds(tmp_path, "sgd", range(6), 0.85)
    make_run(tmp_path, "momentum-s0", scored(7), of("momentum"))
    (whole,) = run([*adam, *sgd])["comparisons"]["ssim"]
    (lost,) = run([*adam, *sgd[:2], *sgd[3:]])["comparisons"]["ssim"]
    for key in ("pairing", "over", "verdict"):
        assert whole[key] == lost[key]
    text = run([*adam, *sgd[:2], *sgd[3:]])["paragraph"]
    assert (
        "Differences of sgd are over the seeds that adam has, too, so they need not equal those of the means." in text
    )
    kept = [i for i in range(6) if i != 2]
    assert lost["high"] - lost["effect"] == pytest.approx(half_by_hand((y - x)[kept]), rel=1e-9)
    (beside, other) = run([*adam, *sgd, "momentum-s0"])["comparisons"]["ssim"]
    assert beside["high"] - beside["effect"] == pytest.approx(half_by_hand(y - x, 0.025), rel=1e-9)
    assert {k: beside[k] for k in ("effect", "pairing", "over")} == {k: whole[k] for k in ("effect", "pairing", "over")}
    assert other["verdict"] == "NO VERDICT"


def test_identical_methods_with_other_seeds_are_seldom_called_different(tmp_path):
    # 18 to 92 % of such comparisons were; five seeds of each, the seeds the largest source
    rng = np.random.default_rng(1)
    wrong = 0
    for study in range(3):
        words = []
        for name, seeds in (("adam", range(5)), ("sgd", range(5, 10))):
            for seed in seeds:
                level = 0.8 + 0.01 * rng.standard_normal()
                rows = [changed_row(r, ssim=level + 0.001 * float(rng.standard_normal())) for r in scored(1)]
                words.append(make_run(tmp_path, f"{study}/{name}-s{seed}", rows, of(name, seed)))
        (c,) = run(words)["comparisons"]["ssim"]
        wrong += c["verdict"] in ("BETTER", "WORSE")
    assert wrong <= stats.binom.ppf(0.99, 3, 0.05)


def test_a_method_without_seeds_pairs_with_every_seed(tmp_path):
    adam, x = make_seeds(tmp_path, "adam", range(6), 0.8)
    rows = [
        changed_row(r, ssim=r.zf_ssim, psnr=r.zf_psnr, nmse=r.zf_nmse, checkpoint="", reconstructor="zero-filled")
        for r in scored(0)
    ]
    write_table(tmp_path / "runs" / "zero-filled" / "evaluation" / NAME, rows)
    result = run(["runs/zero-filled", *adam], margin="1%")
    (c,) = result["comparisons"]["ssim"]
    assert c["pairing"] == "paired seeds"
    assert c["effect"] == pytest.approx(x.mean() - 0.7, rel=1e-12)
    assert c["high"] - c["effect"] == pytest.approx(half_by_hand(x - 0.7), rel=1e-9)
    assert result["zero_filled"] is None  # it is among the compared
    assert c["margin"] is None
    assert "the reference is the zero-filled image" in result["paragraph"]


def test_methods_without_seeds_have_verdicts_over_patients(tmp_path):
    for name, gain in (("zero-filled", 0.0), ("tv", 0.05)):
        rows = [changed_row(r, ssim=r.ssim + gain + i / 1e4, checkpoint="", reconstructor=name)
                for i, r in enumerate(scored(0))]  # fmt: skip
        write_table(tmp_path / "runs" / name / "evaluation" / NAME, rows)
    (c,) = run(["runs/zero-filled", "runs/tv"])["comparisons"]["ssim"]
    assert (c["verdict"], c["pairing"], c["over"]) == ("BETTER", "methods without seeds", "patients")


def shifted(tmp_path, name, optimizer, change, n_seeds=6):
    """Runs of seeds like those of `base`, each volume changed by `change(seed, i)`."""
    return [
        make_run(
            tmp_path,
            f"{name}-s{seed}",
            [
                changed_row(r, ssim=r.ssim + change(seed, i), nmse=r.nmse - change(seed, i))
                for i, r in enumerate(scored(seed))
            ],
            of(optimizer, seed),
        )
        for seed in range(n_seeds)
    ]


def test_a_family_is_adjusted_and_a_worse_method_found_worse(tmp_path, capsys):
    a = shifted(tmp_path, "a", "adam", lambda seed, i: 0.0)
    same = shifted(tmp_path, "same", "sgd", lambda seed, i: 1e-5 * (-1) ** (i + seed))
    worse = shifted(tmp_path, "worse", "rmsprop", lambda seed, i: -0.05 - i / 1e4 - seed / 1e4)
    result = run([*a, *same, *worse], margin="0.001")
    first, second = result["comparisons"]["ssim"]
    assert (first["verdict"], second["verdict"]) == ("EQUIVALENT", "WORSE")
    assert second["size"] == "by more than the margin"
    (alone,) = run([*a, *worse], margin="0.001")["comparisons"]["ssim"]
    assert second["low"] < alone["low"]
    out = capsys.readouterr().out
    for word in ("a (reference)", "EQUIVALENT", "WORSE, by more than the margin", "zero-filled", "For a paper:",
                 "p on these patients", "margin 0.001, chosen when reading"):  # fmt: skip
        assert word in out
    assert "stated beforehand" not in out


def test_lower_nmse_is_better(tmp_path):
    a = shifted(tmp_path, "a", "adam", lambda seed, i: 0.0)
    b = shifted(tmp_path, "b", "sgd", lambda seed, i: 0.1 + i / 1e4 + seed / 1e4)
    result = run([*a, *b], metric="nmse")
    assert list(result["comparisons"]) == ["nmse", "ssim", "psnr"]
    (c,) = result["comparisons"]["nmse"]
    assert (c["verdict"], c["superiority"]) == ("BETTER", 1.0)
    assert "NMSE: b is better than a" in result["paragraph"]


@pytest.mark.parametrize(("margin", "absolute"), [("1%", None), ("2.5 %", None), ("0.003", 0.003), ("1e-3", 1e-3)])
def test_margin(tmp_path, margin, absolute):
    a = scored(1)
    make_run(tmp_path, "a", a, of("adam"))
    make_run(tmp_path, "b", scored(2), of("sgd"))
    result = run(["a", "b"], margin=margin)
    gaps = {"ssim": np.mean([r.ssim for r in a]) - 0.7, "nmse": 0.05 - np.mean([r.nmse for r in a])}
    (c,) = result["comparisons"]["ssim"]
    share = 0 if absolute else float(margin.rstrip(" %")) / 100
    assert c["margin"] == pytest.approx(absolute or share * gaps["ssim"], rel=1e-9)
    assert (c["margin_source"].endswith("chosen when reading"), c["margin_is_late"]) == (True, True)
    assert gaps["nmse"] < 0  # worse than zero-filled there: no gap to take a share of
    assert result["comparisons"]["nmse"][0]["margin"] is None
    reason = "the margin is in units of another metric" if absolute else "a is worse than the zero-filled image"
    assert result["margins"]["nmse"]["reason"] == reason


def test_there_is_no_margin_unless_one_is_given(tmp_path):
    make_run(tmp_path, "a", scored(1), of("adam"))
    make_run(tmp_path, "b", scored(2), of("sgd"))
    result = run(["a", "b"])
    assert {c["margin"] for of_metric in result["comparisons"].values() for c in of_metric} == {None}
    assert "Equivalence was not tested, since no margin was given (--margin)." in result["paragraph"]


def test_accelerations_are_a_factor(tmp_path):
    for name, seeds, loss in (("adam", range(6), 0.0), ("sgd", range(6), 0.03)):
        for seed in seeds:
            four = scored(100 * seed + ord(name[0]))
            eight = [changed_row(r, acceleration=8.0, ssim=r.ssim - 0.1 - loss - i / 1e4) for i, r in enumerate(four)]
            make_run(tmp_path, f"{name}-s{seed}", [*four, *eight], of(name, seed))
    result = run([f"{name}-s{seed}" for name in ("adam", "sgd") for seed in range(6)])
    four, eight = result["comparisons"]["ssim"]
    assert [c["at"] for c in (four, eight)] == ["4x", "8x"]
    assert [c["n_comparisons"] for c in (four, eight)] == [2, 2]
    assert four["effect"] - eight["effect"] == pytest.approx(0.03)
    (change,) = result["by_acceleration"]["ssim"]
    assert (change["at"], change["verdict"]) == ("8x - 4x", "WORSE")
    assert change["effect"] == pytest.approx(-0.03)


def test_single_runs_of_one_patient_show_means_and_no_verdict(tmp_path, capsys):
    make_run(tmp_path, "a", scored(1, n=1), of("adam"))
    make_run(tmp_path, "b", scored(2, n=1), of("sgd"))
    result = run(["a", "b"])
    assert result["comparisons"] == {"ssim": [], "psnr": [], "nmse": []}
    assert "one run of each and one patient say nothing of others" in result["paragraph"]
    assert "interval" not in result["paragraph"]
    assert f"{np.mean([r.ssim for r in scored(2, n=1)]):.4f}" in capsys.readouterr().out


def test_few_patients_are_said_and_make_no_step(tmp_path):
    # four patients gave a tiny interval over seeds alone, five a wide one
    widths = []
    for n in (4, 5):
        words = []
        for seed in range(6):
            for name, base in (("a", "adam"), ("b", "sgd")):
                prefers = np.linspace(-0.02, 0.02, 5)[:n] * (name == "b")
                rows = [
                    changed_row(r, ssim=0.8 + float(x) + seed / 1e4)
                    for r, x in zip(scored(seed, n=n), prefers, strict=True)
                ]
                words.append(make_run(tmp_path, f"{n}/{name}{seed}", rows, of(base, seed)))
        result = run(words)
        (c,) = result["comparisons"]["ssim"]
        assert c["over"] == "seeds and patients"
        assert ("little is known about others" in result["paragraph"]) == (n < 5)
        assert ("few patients" in result["paragraph"]) == (n < 5)
        widths.append(c["high"] - c["low"])
    assert min(widths) > 0.02


def test_a_perfect_image_takes_its_metric_out_and_leaves_the_others(tmp_path, capsys):
    perfect = [changed_row(scored(1)[0], psnr=math.inf), *scored(1)[1:]]
    make_run(tmp_path, "a", perfect, of("adam"))
    make_run(tmp_path, "b", perfect, of("sgd"))
    make_run(tmp_path, "b2", perfect, of("sgd", 1))
    result = run(["a", "b", "b2"], output="out")
    assert "not finite" in result["not_tested"]["psnr"]
    assert result["comparisons"]["ssim"]
    assert result["items"][1]["psnr"] == {"mean": None, "sd_seeds": None}
    assert "PSNR minus that of a (higher is better): not tested" in capsys.readouterr().out


def test_foreign_images_are_undeclared_in_every_place_of_the_verdict(tmp_path, capsys):
    make_run(tmp_path, "ours", scored(1), of("adam"))
    theirs = [
        foreign_row(r.volume, ssim=r.ssim + 0.05 + i / 1e4, psnr=r.psnr, nmse=r.nmse) for i, r in enumerate(scored(1))
    ]
    write_table(tmp_path / "theirs", theirs, split="all", predictions="p", acceleration=None)
    with pytest.raises(InputError, match="theirs declares no mask or acceleration; .*--allow-undeclared"):
        run(["ours", "theirs"])
    result = run(["ours", "theirs"], allow_undeclared=True)
    (c,) = result["comparisons"]["ssim"]
    assert (c["verdict"], c["undeclared"]) == ("NO VERDICT", True)
    assert "Of theirs one set of images is known: its spread between trainings is not." in result["paragraph"]
    assert "the masks of theirs are undeclared" in c["words"]
    assert "Masks or accelerations of theirs are undeclared" in result["paragraph"]
    assert "the same for all" not in result["paragraph"]
    assert "1 mask per volume), as far as declared, and scored" in result["paragraph"]
    assert "ours took 200 steps x 2 slices." in result["paragraph"]
    assert "NO VERDICT (undeclared mask)" in capsys.readouterr().out


def test_a_declared_mask_is_said_to_be_unchecked(tmp_path):
    make_run(tmp_path, "ours", scored(1), of("adam"))
    theirs = [foreign_row(r.volume, mask="random", acceleration=4.0, ssim=r.ssim) for r in scored(2)]
    write_table(tmp_path / "theirs", theirs, split="all", predictions="p")
    result = run(["ours", "theirs"])
    assert "The masks of theirs are as declared, not checked." in result["paragraph"]
    assert "undeclared" not in result["paragraph"]


def test_the_files_hold_every_pair_and_are_not_replaced_unasked(tmp_path):
    adam, x = make_seeds(tmp_path, "adam", (0, 1), 0.8)
    sgd, y = make_seeds(tmp_path, "sgd", (0, 1), 0.85)
    result = run([*adam, *sgd], output="out")
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == json.loads(json.dumps(result))
    with (tmp_path / "out" / "differences.csv").open() as handle:
        rows = [r for r in csv.DictReader(handle) if r["metric"] == "ssim"]
    found = {(int(r["seed"]), r["volume"]): float(r["difference"]) for r in rows}
    assert found == {(s, f"v{i}.h5"): float(y[s, i]) - float(x[s, i]) for s in (0, 1) for i in range(8)}
    with pytest.raises(InputError, match="out is there already; add --overwrite"):
        run([*adam, *sgd], output="out")
    run([*adam, *sgd], output="out", metric="psnr", overwrite=True)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["metric"] == "psnr"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.json", "differences.csv"]


def test_real_trainings_and_foreign_images_of_their_reconstructions(tmp_path, quick, volume_writer):
    """The same images, scored as anybody's, differ by nothing from the evaluation that made them."""
    for split, n in (("train", 2), ("val", 2), ("test", 6)):
        for i in range(n):
            path = tmp_path / "set" / split / f"{split}{i}.h5"
            path.parent.mkdir(parents=True, exist_ok=True)
            volume_writer(path, n_slices=2, n_coils=2, matrix=(32, 32), seed=10 * n + i)
    data = DataConfig(path=str(tmp_path / "set"), mask="random")
    for optimizer, seed in (("adam", 0), ("adam", 1), ("sgd", 0)):
        name = f"{optimizer}{seed}"
        train(quick(name, data=data, optimizer=OptimizerConfig(name=optimizer, lr=1e-2), max_steps=2, seed=seed))
        evaluate(EvaluateConfig(data=data, split="test", save=True, device="cpu", threads=1), name)
    result = run(["adam0", "adam1", "sgd0"])
    assert [(item["name"], item["seeds"]) for item in result["items"]] == [("adam", [0, 1]), ("sgd0", [0])]
    assert result["comparisons"]["ssim"][0]["n_patients"] == 6
    assert result["warnings"] == []
    (images,) = (tmp_path / "adam0" / "evaluation").glob("*/reconstructions/test")
    score(ScoreConfig(mask="random", acceleration=4, output="theirs"), str(images), str(tmp_path / "set" / "test"))
    foreign = run(["adam0", "theirs"])
    for metric in ("ssim", "psnr", "nmse"):
        assert foreign["comparisons"][metric][0]["effect"] == pytest.approx(0, abs=1e-5)


@pytest.mark.realdata
def test_real_data_with_too_few_patients_is_shown_and_not_judged(tmp_path, shared_data):
    for mask in ("random", "equispaced"):
        config = EvaluateConfig(
            data=DataConfig(path=str(shared_data / "singlecoil"), mask=mask),
            split="all", device="cpu", threads=1, output=mask, save=mask == "random",
        )  # fmt: skip
        evaluate(config, "zero-filled")
    with pytest.raises(InputError, match="different masks: random in random, equispaced in equispaced"):
        run(["random", "equispaced"])
    images = str(tmp_path / "random" / "reconstructions")
    score(ScoreConfig(mask="random", acceleration=4, output="theirs"), images, str(shared_data / "singlecoil"))
    result = run(["random", "theirs"])
    assert result["origin"] == "measured"
    assert {c["verdict"] for c in result["comparisons"]["ssim"]} <= {"NO VERDICT"}
    means = [[item[metric]["mean"] for metric in ("ssim", "psnr", "nmse")] for item in result["items"]]
    assert means[0] == pytest.approx(means[1], rel=1e-5)
