"""The page of a comparison says what its folder holds; methods and single evaluations have pages, too."""

import base64
import csv
import json
from html import unescape

import numpy as np
import pytest
from PIL import Image
from result_rows import rows

from mrirecon.cli.results import COMPARE, REPORT
from mrirecon.errors import InputError
from mrirecon.evaluation.results import write_results
from mrirecon.evaluation.summary import summarize

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def method(tmp_path):
    """The folder of a method, with two evaluations."""
    for i, name in enumerate(("knee-test-random-4x", "knee-test-random-8x")):
        folder, results = tmp_path / "tv" / "evaluation" / name, rows(6 + i)
        (folder / "figures").mkdir(parents=True)
        write_results(folder / "volumes.csv", results)
        Image.fromarray(np.full((20, 30), i, np.uint8)).save(folder / "figures" / "slice.png")
        summary = {"protocol": {"name": "fastmri-v1"}, "reconstructor": "tv", "split": "test", **summarize(results)}
        (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path / "tv"


@pytest.fixture
def comparison(method, capsys):
    """What `compare --output` writes, with the table and a picture as `evaluate` of several things has them."""
    folder = method.parent / "together"
    table = method / "evaluation" / "knee-test-random-4x" / "volumes.csv"
    other = method.parent / "other.csv"
    other.write_text(table.read_text())
    COMPARE([str(table), str(other), "--output", str(folder)])
    with (folder / "table.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["name", "ssim", "ssim_sd", "seconds_per_slice"])
        writer.writerows([["tv", 0.123456, "", 1.5], [HOSTILE, 0.5, 0.25, 0.75]])
    (folder / "figures").mkdir()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / "figures" / "all.png")
    printed = capsys.readouterr().out.partition("\n\ntables:")[0]
    return folder, printed


def page_of(folder, capsys):
    REPORT([str(folder)])
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    return (folder / "report.html").read_text(encoding="utf-8")


def test_it_has_the_table_the_differences_and_the_pictures(comparison, capsys):
    folder, printed = comparison
    page = page_of(folder, capsys)
    for words in ("0.1235", "0.25", "1.5", "s per slice", ">SD<", ">SSIM<"):
        assert words in page
    assert printed in unescape(page)
    assert base64.b64encode((folder / "figures" / "all.png").read_bytes()).decode() in page
    assert HOSTILE not in page
    assert HOSTILE in unescape(page)


def test_what_is_missing_leaves_a_line(comparison, capsys):
    folder, _ = comparison
    (folder / "comparison.json").unlink()
    (folder / "figures" / "all.png").unlink()
    page = page_of(folder, capsys)
    assert "Not compared: comparison.json is missing." in page
    assert "No pictures." in page
    assert "0.1235" in page


def test_a_comparison_that_is_none_is_refused(comparison):
    folder, _ = comparison
    (folder / "comparison.json").write_text('{"items": 3}')
    with pytest.raises(InputError, match="comparison.json is not of"):
        REPORT([str(folder)])
    assert not (folder / "report.html").exists()


def test_a_method_has_the_page_of_its_evaluations(method, capsys):
    page = page_of(method, capsys)
    means = [summarize(rows(n))["overall"]["ssim"]["mean"] for n in (6, 7)]
    for name, mean in zip(("knee-test-random-4x", "knee-test-random-8x"), means, strict=True):
        assert f"{name}: SSIM {mean:.4f}" in page
    assert "No validation is recorded" not in page


def test_one_evaluation_has_a_page(method, capsys):
    page = page_of(method / "evaluation" / "knee-test-random-8x", capsys)
    assert "knee-test-random-8x: SSIM" in page
    assert "knee-test-random-4x" not in page
