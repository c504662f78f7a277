"""Means, deviations and groups of an evaluation."""

import json
import math

import numpy as np
import pytest
from result_rows import foreign_row, row, rows

from mrirecon.errors import InputError
from mrirecon.evaluation import bootstrap_ci
from mrirecon.evaluation.results import by_volume, read_results, write_results
from mrirecon.evaluation.summary import fastmri_line, summarize


def test_overall_equals_numpy():
    results = rows(7)
    overall = summarize(results)["overall"]
    values = [r.ssim for r in results]
    assert overall["n_volumes"] == overall["n_patients"] == 7
    assert overall["ssim"]["mean"] == pytest.approx(np.mean(values), rel=1e-14)
    assert overall["ssim"]["sd"] == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert overall["ssim"]["sd_draws"] is None
    interval = bootstrap_ci(values, [r.patient for r in results])
    assert (overall["ssim"]["low"], overall["ssim"]["high"]) == interval
    assert overall["difference_ssim"]["mean"] == pytest.approx(np.mean(values) - 0.7, rel=1e-12)
    assert overall["difference_psnr"]["mean"] == pytest.approx(5)
    assert overall["acceleration_true"] == 3.75


def test_draws_are_averaged_within_a_volume_first():
    once, thrice = summarize(rows(6))["overall"], summarize(rows(6, draws=3))["overall"]
    assert (thrice["n_volumes"], thrice["n_draws"]) == (6, 3)
    assert thrice["ssim"]["mean"] == pytest.approx(once["ssim"]["mean"] + 0.01)
    assert thrice["ssim"]["sd"] == pytest.approx(once["ssim"]["sd"])
    assert thrice["ssim"]["sd_draws"] == pytest.approx(0.01)  # SD of .00, .01, .02


def test_groups():
    results = [*rows(4), row("w.h5", acceleration=8.0, origin="simulated-from-phantom")]
    summary = summarize(results)
    assert {k: v["n_volumes"] for k, v in summary["by_acquisition"].items()} == {"AXT1": 2, "AXT2": 3}
    assert list(summary["by_acceleration"]) == ["4", "8"]
    assert list(summary["by_origin"]) == ["measured", "simulated-from-phantom"]
    assert summary["by_acceleration"]["8"]["ssim"]["sd"] is None


def test_few_patients_have_no_interval():
    results = [row(f"v{i}.h5", patient=f"p{i % 4}", ssim=i / 10) for i in range(8)]
    overall = summarize(results)["overall"]
    assert overall["n_patients"] == 4
    assert overall["ssim"]["low"] is overall["ssim"]["high"] is None


def test_a_value_that_is_not_finite_leaves_null_not_a_mean_of_the_rest():
    results = [*rows(6), row("perfect.h5", psnr=math.inf, ssim=1.0)]
    summary = summarize(results)
    assert summary["overall"]["psnr"]["mean"] is None
    assert summary["overall"]["ssim"]["mean"] is not None
    json.dumps(summary, allow_nan=False)


def test_rows_without_acceleration_or_zero_filled_scores(tmp_path):
    results = [foreign_row(f"v{i}.h5", mask_draw=d, ssim=0.5 + i / 10 + d / 50) for d in range(2) for i in range(6)]
    summary = summarize(results)
    assert list(summary["by_acceleration"]) == ["undeclared"]
    overall = summary["overall"]
    assert overall["acceleration_true"] is None
    assert set(overall["zf_psnr"].values()) == set(overall["difference_nmse"].values()) == {None}
    assert overall["ssim"]["sd_draws"] == pytest.approx(0.02 / math.sqrt(2))  # the draws of a volume found each other
    json.dumps(summary, allow_nan=False)
    write_results(tmp_path / "volumes.csv", results)
    assert [len(draws) for draws in by_volume(read_results(tmp_path / "volumes.csv")).values()] == [2] * 6


@pytest.mark.parametrize("n", [2, 5])
def test_fastmri_line_equals_numpy(n):
    results = [row(f"v{i}.h5", ssim=0.7 + i / 30, psnr=30 + i / 7, nmse=1e-3 / (i + 3)) for i in range(n)]
    mse = [1e-9 * (i + 1) ** 2 for i in range(n)]
    columns = [mse, *([getattr(r, name) for r in results] for name in ("nmse", "psnr", "ssim"))]
    words = [f"{np.mean(values):.4g} +/- {2 * np.std(values, ddof=1):.4g}" for values in columns]
    assert fastmri_line(results, mse) == "MSE = {} NMSE = {} PSNR = {} SSIM = {}".format(*words)


def test_fastmri_line_without_deviation():
    assert fastmri_line([row(ssim=0.5)], [0.25]).startswith("MSE = 0.25 +/- - NMSE = 0.02 +/- - ")
    assert "PSNR = inf +/- - " in fastmri_line([row(psnr=math.inf), row("w.h5")], [0.0, 1.0])


def test_csv_keeps_every_digit(tmp_path):
    results = [row(ssim=1 / 3, nmse=1e-300 / 3, psnr=math.inf), row("ä, b.h5", patient='"x"')]
    write_results(tmp_path / "volumes.csv", results)
    assert read_results(tmp_path / "volumes.csv") == results
    assert (tmp_path / "volumes.csv").read_text(encoding="utf-8").startswith("volume,patient,origin,acquisition,")


@pytest.mark.parametrize("text", [None, "a,b\n1,2\n", "\0"])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "volumes.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match="not a table"):
        read_results(path)
