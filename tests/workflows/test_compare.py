"""`compare`: cells of seeds, statistics against scipy, what the verdict repeats."""

import csv
import json
import math

import numpy as np
import pytest
from finished_runs import NAME, make_run, make_seeds, of, run, scored, write_table
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


def test_one_run_each_is_a_paired_t_interval_and_a_sign_flip_test_over_patients(tmp_path):
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
        assert c["p"] == c["p_family"] == pytest.approx(flipped_p(d), abs=1e-12)
    assert result["pairing"] == "single runs"
    assert "nothing is known about the spread between trainings" in result["paragraph"]
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
    assert (result["pairing"], c["generalizes"]) == ("paired seeds", "seeds and volumes")
    assert [(item["name"], item["seeds"]) for item in result["items"]] == [
        ("adam", list(seeds)),
        ("sgd", list(seeds)),
    ]
    assert (c["n_seeds"], c["n_volumes"], c["n_patients"]) == (7, 8, 8)
    assert c["effect"] == pytest.approx(d.mean(), rel=1e-12)
    assert c["p"] == pytest.approx(flipped_p(d.mean(axis=1)), abs=1e-12)
    assert result["items"][1]["ssim"]["mean"] == pytest.approx(y.mean(), rel=1e-12)
    assert result["items"][1]["ssim"]["sd_seeds"] == pytest.approx(y.mean(axis=1).std(ddof=1), rel=1e-12)
    assert c["verdict"] == "BETTER"
    assert c["margin"] == pytest.approx(0.01 * (x.mean() - 0.7), rel=1e-12)  # rows say 0.7 of zero-filled
    assert "7 paired seeds" in result["paragraph"]
    assert "spread between trainings" not in result["paragraph"]
    assert "The trainings differ in optimizer.name (adam; sgd). Each took 200 steps x 2 slices." in result["paragraph"]


def test_seeds_that_do_not_pair_leave_their_means(tmp_path):
    adam, x = make_seeds(tmp_path, "adam", (0, 1, 2), 0.8)
    sgd, y = make_seeds(tmp_path, "sgd", (3, 4), 0.85)
    result = run([*adam, *sgd])
    d = y.mean(axis=0) - x.mean(axis=0)
    (c,) = result["comparisons"]["ssim"]
    assert (result["pairing"], c["generalizes"]) == ("seed means", "volumes")
    assert (c["low"], c["high"]) == pytest.approx(tuple(stats.ttest_1samp(d, 0).confidence_interval()), rel=1e-10)
    text = result["paragraph"]
    assert "The seeds do not pair (adam 0, 1, 2; sgd 3, 4)" in text
    assert "means over the seeds of each" in text
    assert "1 paired seed" not in text
    assert "single runs" not in text


def test_a_method_without_seeds_pairs_with_every_seed(tmp_path):
    adam, x = make_seeds(tmp_path, "adam", range(6), 0.8)
    rows = [
        changed_row(r, ssim=r.zf_ssim, psnr=r.zf_psnr, nmse=r.zf_nmse, checkpoint="", reconstructor="zero-filled")
        for r in scored(0)
    ]
    write_table(tmp_path / "runs" / "zero-filled" / "evaluation" / NAME, rows)
    result = run(["runs/zero-filled", *adam])
    (c,) = result["comparisons"]["ssim"]
    assert result["pairing"] == "paired seeds"
    assert c["effect"] == pytest.approx(x.mean() - 0.7, rel=1e-12)
    assert c["p"] == pytest.approx(flipped_p(x.mean(axis=1) - 0.7), abs=1e-12)
    assert result["zero_filled"] is None  # it is among the compared
    assert c["margin"] is None
    assert "the reference is the zero-filled image" in result["paragraph"]


def test_a_family_is_adjusted_and_a_worse_run_found_worse(tmp_path, capsys):
    a = scored(1)
    make_run(tmp_path, "a", a, of("adam"))
    make_run(tmp_path, "same", [changed_row(r, ssim=r.ssim + 1e-5 * (-1) ** i) for i, r in enumerate(a)], of("sgd"))
    make_run(tmp_path, "worse", [changed_row(r, ssim=r.ssim - 0.05 - i / 1e4) for i, r in enumerate(a)], of("rmsprop"))
    result = run(["a", "same", "worse"])
    same, worse = result["comparisons"]["ssim"]
    assert (same["verdict"], worse["verdict"]) == ("EQUIVALENT", "WORSE")
    assert worse["low_family"] < worse["low"]
    assert (worse["superiority"], same["superiority"]) == (0.0, 0.5)
    out = capsys.readouterr().out
    for word in ("a (reference)", "p in the family", "EQUIVALENT", "WORSE", "zero-filled", "For a paper:"):
        assert word in out


def test_lower_nmse_is_better(tmp_path):
    make_run(tmp_path, "a", scored(1), of("adam"))
    make_run(tmp_path, "b", [changed_row(r, nmse=r.nmse - 0.1 - i / 1e4) for i, r in enumerate(scored(1))], of("sgd"))
    result = run(["a", "b"], metric="nmse")
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
    share = 0.01 if absolute else float(margin.rstrip(" %")) / 100
    (c,) = result["comparisons"]["ssim"]
    assert c["margin"] == pytest.approx(absolute or share * gaps["ssim"], rel=1e-9)
    assert gaps["nmse"] < 0  # worse than zero-filled there: no gap to take a share of
    assert result["comparisons"]["nmse"][0]["margin"] is None
    assert result["margins"]["nmse"]["reason"] == "a is worse than the zero-filled image"


def test_too_few_patients_for_single_runs_show_means_and_no_verdict(tmp_path, capsys):
    make_run(tmp_path, "a", scored(1, n=4), of("adam"))
    make_run(tmp_path, "b", scored(2, n=4), of("sgd"))
    result = run(["a", "b"])
    assert result["comparisons"] == {"ssim": [], "psnr": [], "nmse": []}
    assert "one run of each and 4 patients say too little" in result["paragraph"]
    assert "interval" not in result["paragraph"]
    assert f"{np.mean([r.ssim for r in scored(2, n=4)]):.4f}" in capsys.readouterr().out


def test_few_patients_with_seeds_are_these_patients_only(tmp_path):
    for seed in range(6):
        make_run(tmp_path, f"a{seed}", scored(seed, n=3), of("adam", seed))
        make_run(tmp_path, f"b{seed}", scored(50 + seed, n=3), of("sgd", seed))
    result = run([f"{name}{seed}" for name in "ab" for seed in range(6)])
    assert result["comparisons"]["ssim"][0]["generalizes"] == "seeds"
    assert "With 3 patients the result holds for these patients only." in result["paragraph"]


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
    assert (c["verdict"], c["undeclared"]) == ("BETTER", True)
    assert "the masks of theirs are undeclared" in c["words"]
    assert "Masks or accelerations of theirs are undeclared" in result["paragraph"]
    assert "the same for all" not in result["paragraph"]
    assert "1 mask per volume), as far as declared, and scored" in result["paragraph"]
    assert "ours took 200 steps x 2 slices." in result["paragraph"]
    assert "BETTER (undeclared mask)" in capsys.readouterr().out


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
    assert (result["origin"], result["pairing"]) == ("measured", "single runs")
    means = [[item[metric]["mean"] for metric in ("ssim", "psnr", "nmse")] for item in result["items"]]
    assert means[0] == pytest.approx(means[1], rel=1e-5)
