"""Metrics of the table as users meet them: chosen by name, with the file's object, in tables old and new."""

import csv
import json
import math
import re
import shutil

import h5py
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from mrirecon.config import CompareConfig, DataConfig, EvaluateConfig, ScoreConfig
from mrirecon.data.hdf5.opening import close
from mrirecon.errors import InputError
from mrirecon.evaluation.results import read_results
from mrirecon.files import read_table
from mrirecon.report.pages.run_page import write_run_page
from mrirecon.runs import RunFolder
from mrirecon.tables.metrics import METRICS, Metric
from mrirecon.workflows.compare.compare_tables import compare
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.score import score
from mrirecon.workflows.train import train


def evaluated(data, out, **changes):
    config = EvaluateConfig(data=DataConfig(path=str(data)), output=str(out), threads=1, **changes)
    (folder,) = evaluate(config, "zero-filled")
    return folder


def columns(folder):
    with (folder / "volumes.csv").open() as handle:
        return next(csv.reader(handle))


@pytest.fixture
def data(tmp_path, volume_writer):
    """Five volumes; of the first two the file says where the object is."""
    for i in range(5):
        path = volume_writer(tmp_path / "data" / "val" / f"v{i}.h5", n_slices=2, matrix=(40, 36), seed=i)
        if i < 2:
            with h5py.File(path, "r+") as file:
                file["object_mask"] = disc()
    return tmp_path / "data"


def disc(radius=0.6, n=2):
    y, x = np.mgrid[-1:1:40j, -1:1:36j]
    return (np.hypot(y, x) < radius)[None].repeat(n, axis=0).astype(np.uint8)


def test_a_new_metric_is_one_entry(monkeypatch, quick, capsys):
    """And is in training, tables, comparison and report then, under the name and in the format of its entry."""
    monkeypatch.setitem(
        METRICS,
        "mae",
        Metric(
            label="Mean |error|",
            help="mean absolute error",
            columns=("absolute_error", "n_seen"),
            of_slice=lambda pair: (float(np.abs(pair.target.values - pair.image).sum()), pair.image.size),
            of_volume=lambda sums, n_slices, data_range: sums["absolute_error"] / sums["n_seen"] / data_range,
            digits=".6f",
            higher_is_better=False,
            perfect=0.0,
        ),
    )
    config = quick(max_steps=2, val_every=1, monitor="mae")
    run = train(config)
    validations = [row for row in read_table(run.curves)[1] if row["val_loss"]]
    assert [float(row["val_mae"]) > 0 for row in validations] == [True, True]
    data = DataConfig(path=config.data.path)
    folders = [
        *evaluate(EvaluateConfig(data=data, threads=1, output=f"{run.path}/evaluation/it"), str(run.path)),
        *evaluate(EvaluateConfig(data=data, threads=1, output=f"{run.path.parent}/zero"), "zero-filled"),
    ]
    printed = capsys.readouterr().out
    for folder in folders:
        assert columns(folder)[-5:] == ["mae", "zf_ssim_object", "zf_mae", "object", "n_object_windows"]
        overall = json.loads((folder / "summary.json").read_text())["overall"]
        assert overall["mae"]["mean"] == pytest.approx(
            np.mean([r.scores["mae"] for r in read_results(folder / "volumes.csv")])
        )
        assert f"{overall['mae']['mean']:.6f}" in printed
    assert "Mean |error|" in printed
    zero = read_results(folders[1] / "volumes.csv")
    assert [r.scores["mae"] for r in zero] == [r.zero_filled["mae"] for r in read_results(folders[0] / "volumes.csv")]
    result = compare(CompareConfig(metric="mae"), [str(folder) for folder in folders])
    assert result["better"]["mae"] == "lower"
    printed = capsys.readouterr().out
    assert "Mean |error| minus that of" in printed
    assert f"{np.mean([r.scores['mae'] for r in zero]):.6f}" in printed
    write_run_page(RunFolder(run.path), run.path / "report.html")
    page = (run.path / "report.html").read_text()
    assert page.count("Mean |error|") >= 2  # groups and volumes
    assert "Validation Mean |error|: 0." in page


def test_metrics_are_chosen_by_name(data, tmp_path, capsys):
    folder = evaluated(data, tmp_path / "out", metrics=["hfen", "psnr"])
    assert columns(folder)[13:] == ["psnr", "zf_psnr", "seconds", "hfen", "zf_hfen", "object", "n_object_windows"]
    assert {(r.object, r.n_object_windows) for r in read_results(folder / "volumes.csv")} == {("", None)}
    assert "object" not in json.loads((folder / "summary.json").read_text())
    printed = capsys.readouterr().out
    assert "HFEN" in printed
    assert "SSIM" not in printed
    full = evaluated(data, tmp_path / "full", metrics=list(METRICS))
    for few, all_ in zip(read_results(folder / "volumes.csv"), read_results(full / "volumes.csv"), strict=True):
        assert few.scores == {name: all_.scores[name] for name in ("psnr", "hfen")}
    with pytest.raises(InputError, match=r"unknown metric 'pnsr'; did you mean 'psnr'\?"):
        evaluated(data, tmp_path / "wrong", metrics=["pnsr"])
    assert not (tmp_path / "wrong").exists()


def test_the_default_table_ends_with_what_is_new(data, tmp_path):
    """So that whoever reads it by position goes on reading the same."""
    expected = "ssim psnr nmse zf_ssim zf_psnr zf_nmse seconds ssim_object zf_ssim_object object n_object_windows"
    assert columns(evaluated(data, tmp_path / "out"))[13:] == expected.split()


def test_the_files_object_is_used_in_evaluate_and_score(data, tmp_path):
    folder = evaluated(data, tmp_path / "out", save=True)
    rows = read_results(folder / "volumes.csv")
    assert [r.object for r in rows] == ["object_mask"] * 2 + ["threshold-v1"] * 3
    for row in rows[:2]:
        with h5py.File(data / row.volume) as file, h5py.File(folder / "reconstructions" / row.volume) as made:
            target, image = (
                f[key][()].astype(float) for f, key in ((file, "reconstruction_rss"), (made, "reconstruction"))
            )
        inside = disc()[:, 3:-3, 3:-3] > 0
        maps = [
            structural_similarity(t, r, data_range=target.max(), full=True)[1][3:-3, 3:-3]
            for t, r in zip(target, image, strict=True)
        ]
        assert row.n_object_windows == inside.sum()
        expected = np.mean([m[mask].mean() for m, mask in zip(maps, inside, strict=True)])
        assert row.scores["ssim_object"] == row.zero_filled["ssim_object"] == pytest.approx(expected, rel=1e-5)
    found = score(
        ScoreConfig(output=str(tmp_path / "scored")), str(folder / "reconstructions" / "val"), str(data / "val")
    )
    for row, other in zip(rows, read_results(found / "volumes.csv"), strict=True):
        assert (other.object, other.n_object_windows) == (row.object, row.n_object_windows)
        assert other.scores == pytest.approx(dict(row.scores), rel=1e-6)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (disc(n=1), r"v0\.h5: 'object_mask' is uint8 of shape \(1, 40, 36\); .* of shape \(2, 40, 36\) .* are needed"),
        (disc().astype(np.float32), r"'object_mask' is float32"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_where_it_is_asked_for(data, tmp_path, mask, says):
    with h5py.File(data / "val" / "v0.h5", "r+") as file:
        del file["object_mask"]
        file["object_mask"] = mask
    with pytest.raises(InputError, match=says):
        evaluated(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = evaluated(data, tmp_path / "without", save=True, metrics=["ssim"])
    predictions, targets = str(folder / "reconstructions" / "val"), str(data / "val")
    with pytest.raises(InputError, match=says):
        score(ScoreConfig(output=str(tmp_path / "scored")), predictions, targets)
    score(ScoreConfig(output=str(tmp_path / "scored"), metrics=["psnr"]), predictions, targets)


def test_a_volume_without_object_has_no_score_and_a_line(data, tmp_path, capsys):
    with h5py.File(data / "val" / "v1.h5", "r+") as file:
        file["object_mask"][...] = 0
    with h5py.File(data / "val" / "v0.h5", "r+") as file:
        file["object_mask"][0] = 0  # of one slice: the other counts
    folder = evaluated(data, tmp_path / "out")
    assert [math.isnan(r.scores["ssim_object"]) for r in read_results(folder / "volumes.csv")] == [
        False,
        True,
        *[False] * 3,
    ]
    assert "note: 1 of 5 volumes (val/v1.h5) have no object: no object SSIM of them" in capsys.readouterr().err
    overall = json.loads((folder / "summary.json").read_text())["overall"]
    assert overall["ssim_object"]["mean"] is None
    assert overall["ssim"]["mean"] > 0


def test_a_training_says_once_why_the_curve_of_object_ssim_is_empty(quick, small_data, tmp_path, capsys):
    shutil.copytree(small_data, tmp_path / "data")
    with h5py.File(tmp_path / "data" / "val" / "val1.h5", "r+") as file:
        file["object_mask"] = np.zeros((3, 32, 32), np.uint8)
    run = train(quick(max_steps=2, val_every=1, data=DataConfig(path=str(tmp_path / "data"), acceleration=[4, 8])))
    line = (
        "note        validation: 1 of 2 volumes (val/val1.h5) have no object: no object SSIM of them, and no mean of it"
    )
    assert capsys.readouterr().err.splitlines().count(line) == 1
    scores = [row for row in read_table(run.curves)[1] if row["val_loss"]]
    assert [(math.isnan(float(row["val_ssim_object"])), float(row["val_ssim"]) > 0) for row in scores] == [
        (True, True)
    ] * 2


def test_draws_of_one_volume_are_one_volume_without_object(data, tmp_path, capsys):
    with h5py.File(data / "val" / "v1.h5", "r+") as file:
        file["object_mask"][...] = 0
    evaluated(data, tmp_path / "out", mask_draws=2)
    assert "note: 1 of 5 volumes (val/v1.h5) have no object" in capsys.readouterr().err


def as_before(folder):
    """The table as it was before any metric was added."""
    _, rows = read_table(folder / "volumes.csv")
    new = ("ssim_object", "hfen", "object", "n_object_windows")
    kept = [name for name in rows[0] if name.removeprefix("zf_") not in new]
    with (folder / "volumes.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def test_older_tables_go_with_newer_ones(data, tmp_path, capsys):
    new, old = (evaluated(data, tmp_path / name) for name in ("new", "old"))
    as_before(old)
    assert list(read_results(old / "volumes.csv")[0].scores) == ["ssim", "psnr", "nmse"]
    result = compare(CompareConfig(), [str(new), str(old)])
    assert list(result["better"]) == ["ssim", "psnr", "nmse"]
    assert f"not compared: {old} has no object SSIM" in result["warnings"]
    with pytest.raises(
        InputError, match=rf"no object SSIM to compare \({old} has no object SSIM\); .*: ssim, psnr, nmse$"
    ):
        compare(CompareConfig(metric="ssim_object"), [str(new), str(old)])
    with pytest.raises(InputError, match=r"no HFEN to compare \(no table has it\)"):
        compare(CompareConfig(metric="hfen"), [str(new), str(old)])
    capsys.readouterr()


def test_objects_from_elsewhere_are_not_compared(data, tmp_path):
    by_file = evaluated(data, tmp_path / "by-file")
    for i in range(2):
        close(data / "val" / f"v{i}.h5")
        with h5py.File(data / "val" / f"v{i}.h5", "r+") as file:
            del file["object_mask"]
    by_rule = evaluated(data, tmp_path / "by-rule")
    result = compare(CompareConfig(), [str(by_file), str(by_rule)])
    assert "ssim_object" not in result["better"]
    assert any("the object of val/v0.h5 is from object_mask in" in warning for warning in result["warnings"])


@pytest.mark.parametrize("radius", [0.5, 0.0])
def test_different_masks_of_one_object_are_not_compared(data, tmp_path, radius):
    large = evaluated(data, tmp_path / "large")
    same = evaluated(data, tmp_path / "same")
    close(data / "val" / "v1.h5")
    with h5py.File(data / "val" / "v1.h5", "r+") as file:
        file["object_mask"][...] = disc(radius)
    small = evaluated(data, tmp_path / "small")
    assert "ssim_object" in compare(CompareConfig(), [str(large), str(same)])["better"]
    numbers = [int((disc(r)[:, 3:-3, 3:-3] > 0).sum()) for r in (0.6, radius)]
    differs = f"the object of val/v1.h5 has {numbers[0]} windows in {large} and {numbers[1]} in {small}"
    result = compare(CompareConfig(), [str(large), str(same), str(small)])
    assert "ssim_object" not in result["better"]
    assert any(differs in warning for warning in result["warnings"])
    with pytest.raises(InputError, match=re.escape(differs)):
        compare(CompareConfig(metric="ssim_object"), [str(large), str(small)])


def test_tables_without_the_size_of_objects_stay_readable(data, tmp_path):
    """Those of before the column: compared by where objects are from."""
    folders = [evaluated(data, tmp_path / name) for name in ("new", "old")]
    _, rows = read_table(folders[1] / "volumes.csv")
    with (folders[1] / "volumes.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, [key for key in rows[0] if key != "n_object_windows"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert [r.n_object_windows for r in read_results(folders[1] / "volumes.csv")] == [None] * 5
    assert "ssim_object" in compare(CompareConfig(), list(map(str, folders)))["better"]


def test_a_table_without_metrics_is_none(data, tmp_path):
    folder = evaluated(data, tmp_path / "out", metrics=["hfen"])
    as_before(folder)
    with pytest.raises(InputError, match=r"is not a table of `mrirecon evaluate` \('ssim or ssim_object or psnr"):
        read_results(folder / "volumes.csv")
