"""The whole job on built-in data."""

import json
import time

import pytest

from mrirecon.cli import main


def test_a_small_demo_makes_everything(tmp_path, capsys):
    folder = tmp_path / "demo"
    words = ["demo", "--output", str(folder), "--train", "2", "--test", "2", "--max-steps", "3", "--quiet"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "SSIM" in out
    assert "together: " in out
    for name in ("zero-filled", "tv", "unet"):
        assert any(line.startswith(f"{name} ") and "±" in line for line in out.split("\n"))
        summary = json.loads((folder / "evaluation" / name / "summary.json").read_text())
        assert summary["overall"]["n_volumes"] == 2
        assert summary["split"] == "test"
    assert (folder / "reconstruction.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "unet" / "weights.safetensors").is_file()
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_a_folder_of_something_else_is_never_replaced(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", "--output", str(tmp_path), "--overwrite"]) == 2
    assert "was not made by" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("words", [("--test", "0"), ("--train", "0"), ("--max-steps", "-1"), ("--max-steps", "0")])
def test_numbers_are_checked_before_work(tmp_path, capsys, words):
    assert main(["demo", "--output", str(tmp_path / "demo"), *words]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_the_demo_beats_zero_filled_on_unseen_heads(tmp_path):
    """At least +0.05 SSIM and +2 dB at the lower 95 % bound over six or more unseen anatomies at 4x."""
    start = time.monotonic()
    assert main(["demo", "--output", str(tmp_path / "demo"), "--quiet"]) == 0
    assert time.monotonic() - start < 600  # a busy machine; the README gives the time of a free one
    of_tv, overall = (
        json.loads((tmp_path / "demo" / "evaluation" / name / "summary.json").read_text())["overall"]
        for name in ("tv", "unet")
    )
    assert of_tv["difference_psnr"]["low"] >= 2.0
    assert of_tv["difference_ssim_object"]["low"] >= 0.05
    assert overall["n_patients"] >= 6
    assert overall["difference_ssim"]["low"] >= 0.05
    assert overall["difference_psnr"]["low"] >= 2.0
