"""The page of a run says what its folder holds; `mrirecon report` finds out what it was given."""

import base64
import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from result_rows import rows

from mrirecon.cli.results import REPORT
from mrirecon.config import ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.configfile import save
from mrirecon.errors import InputError
from mrirecon.evaluation.results import write_results
from mrirecon.evaluation.summary import summarize
from mrirecon.report.figures.drawing import NothingToDrawError
from mrirecon.report.figures.run_curves import column, draw_run_curves
from mrirecon.report.pages.run_page import run_report, write_run_page
from mrirecon.report.run_files import read_rows
from mrirecon.runs import RunFolder
from mrirecon.training.loop.curves import columns

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def run(tmp_path):
    """A run folder written by hand, with one evaluation of six volumes."""
    run = RunFolder(tmp_path / "group-adam")
    run.path.mkdir()
    optimizer = OptimizerConfig(name="adam", lr=2e-3)
    config = TrainConfig(model=ModelConfig(norm="group"), optimizer=optimizer, max_steps=300, batch_size=2, devices=2)
    save(config, run.config)
    run.provenance.write_text(json.dumps({"mrirecon": "0.1.0", "packages": {"torch": "2.7.0"}, "git": None}))
    run.split.write_text(json.dumps({"train": ["a.h5", "b.h5"], "val": ["c.h5"]}))
    with run.curves.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns())
        writer.writeheader()
        for step in range(50, 301, 50):
            writer.writerow({"step": step, "lr": 1e-3, "train_loss": 10 / step, "grad_norm": 1.0, "update_ratio": 1e-3})
        writer.writerow({"step": 150, "val_loss": 0.2, "val_ssim": 0.95, "val_psnr": 33, "seconds": 1})
        writer.writerow({"step": 300, "val_loss": 0.3, "val_ssim": 0.91, "val_psnr": 32, "seconds": 2})
    evaluate(run, "knee-test-random-4x", rows(6))
    return run


def evaluate(run, name, results):
    folder = run.path / "evaluation" / name
    (folder / "figures").mkdir(parents=True)
    write_results(folder / "volumes.csv", results)
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / "figures" / "slice.png")
    summary = {"protocol": {"name": "fastmri-v1"}, "checkpoint": "best", "split": "test", **summarize(results)}
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary["overall"]


def page_of(run):
    path = run.path / "report.html"
    write_run_page(run, path)
    return " ".join(path.read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("monitor", "words"),
    [
        ("psnr", "Validation PSNR: 33.00 at best, step 150; 32.00 at the last, step 300."),
        ("loss", "Validation loss: 0.2 at best, step 150; 0.3 at the last, step 300."),
        ("nonsense", "Validation SSIM: 0.9500 at best, step 150; 0.9100 at the last, step 300."),
    ],
)
def test_the_score_that_chose_the_checkpoint_is_told(run, monitor, words):
    run.config.write_text(run.config.read_text().replace("monitor: ssim", f"monitor: {monitor}"))
    assert words in page_of(run)


def test_it_says_what_the_run_is_and_found(run):
    text = page_of(run)
    ssim = summarize(rows(6))["overall"]["ssim"]
    for words in (
        "unet with group norm; adam, lr 0.002; 300 steps x 4 slices",
        "Validation SSIM: 0.9500 at best, step 150; 0.9100 at the last, step 300.",
        f"knee-test-random-4x: SSIM {ssim['mean']:.4f} [{ssim['low']:.4f}, {ssim['high']:.4f}], zero-filled",
        "<dt>packages.torch</dt><dd>2.7.0</dd>",
        "<dt>train</dt><dd>2</dd>",
        "max_steps: 300",
    ):
        assert words in text, words
    picture = (run.path / "evaluation" / "knee-test-random-4x" / "figures" / "slice.png").read_bytes()
    assert base64.b64encode(picture).decode() in text


def test_every_volume_is_a_row(run):
    text = page_of(run)
    for result in rows(6):
        assert f"{result.ssim:.4f}" in text
        assert result.volume in text


def test_few_patients_have_no_interval(run):
    evaluate(run, "knee-val-random-4x", rows(2))
    assert "knee-val-random-4x: SSIM 0.8050, zero-filled" in page_of(run)


def test_what_is_missing_leaves_a_line(run):
    for path in (run.provenance, run.split, run.curves, run.config, *run.path.glob("evaluation/*/*.*")):
        path.unlink()
    text = page_of(run)
    for words in (
        "No validation is recorded.",
        "No curves: the run has not written any row of curves.csv.",
        "The run has not been evaluated",
        "No configuration: config.yaml is missing.",
        "No provenance: provenance.json is missing.",
    ):
        assert words in text, words


def test_damaged_files_do_not_stop_it(run):
    run.provenance.write_text("{")
    with run.curves.open("a") as handle:
        handle.write("310,,what")
    folder = next(run.path.glob("evaluation/*"))
    (folder / "volumes.csv").write_text("volume,ssim\nx.h5,none\n")
    (folder / "summary.json").write_text("{}")
    text = page_of(run)
    assert "no score is recorded." in text
    assert "x.h5" in text


def test_hostile_names_stay_text(run):
    before = page_of(run).count("<script")
    evaluate(run, "hostile", [replace(rows(1)[0], volume=HOSTILE, acquisition=HOSTILE)])
    run.provenance.write_text(json.dumps({HOSTILE: HOSTILE}))
    run.config.write_text(HOSTILE)
    text = page_of(run)
    assert text.count("<script") == before
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_curves_are_the_columns_as_numbers(run):
    table = read_rows(run.curves)
    assert column(table, "val_ssim") == ([150, 300], [0.95, 0.91])
    assert column(table, "train_loss") == (list(range(50, 301, 50)), [10 / s for s in range(50, 301, 50)])
    figure = draw_run_curves(table)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        *("loss", "validation SSIM", "validation PSNR (dB)"),
        *("learning rate", "gradient norm", "update / weights"),
    ]
    with pytest.raises(NothingToDrawError):
        draw_run_curves([])


def test_the_command_writes_into_the_run(run, capsys):
    REPORT([str(run.path)])
    page = run.path / "report.html"
    assert capsys.readouterr().out == f"report: {page}\n"
    before = page.read_bytes()
    REPORT([str(run.path)])
    assert page.read_bytes() == before


def test_the_command_can_write_elsewhere(run, tmp_path):
    REPORT([str(run.path), "--output", str(tmp_path / "new" / "page.html")])
    assert (tmp_path / "new" / "page.html").is_file()
    assert not (run.path / "report.html").exists()


def test_an_ablation_is_told_from_a_run(tmp_path, monkeypatch, capsys):
    from mrirecon.ablation import publish

    for name in ("manifest.json", "ablation.yaml"):
        (tmp_path / name).write_text("")
    asked = []
    monkeypatch.setattr(publish, "write_report", lambda path: asked.append(path) or path / "report" / "index.html")
    REPORT([str(tmp_path)])
    assert asked == [tmp_path]
    assert capsys.readouterr().out == f"report: {tmp_path / 'report' / 'index.html'}\n"
    with pytest.raises(InputError, match="--output x is for runs"):
        REPORT([str(tmp_path), "--output", "x"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path / "absent", "no run folder"),
        (lambda path: path, "is not a run folder"),
    ],
)
def test_what_is_neither_is_refused(tmp_path, make, words):
    with pytest.raises(InputError, match=words):
        REPORT([str(make(tmp_path))])


def test_a_page_needs_a_file_to_go_to(run, tmp_path):
    with pytest.raises(InputError, match="is a folder; give a file"):
        run_report(run.path, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError) as caught:
        run_report(run.path, tmp_path / "file" / "page.html")
    assert caught.value.filename == str(tmp_path / "file")


def test_help_needs_no_heavy_library():
    code = (
        "import sys; from mrirecon.cli.results import REPORT; REPORT(['--help']); "
        "print(sorted({'torch', 'matplotlib', 'jinja2', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("usage: mrirecon report FOLDER")
    assert done.stdout.splitlines()[-1] == "[]"
