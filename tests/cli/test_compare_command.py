"""`mrirecon compare` on the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from result_rows import foreign_row, row

from mrirecon.cli.command import run_safely
from mrirecon.cli.results import COMPARE
from mrirecon.evaluation.results import write_results


def main(words):
    return run_safely(lambda: COMPARE(words), debug=False)


def write(folder, seed, make=row, **changes):
    rng = np.random.default_rng(seed)
    folder.mkdir()
    rows = [make(f"v{i}.h5", ssim=float(0.8 + rng.normal() / 100), **changes) for i in range(7)]
    write_results(folder / "volumes.csv", rows)


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Three comparable tables, and some that are not."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b", "c")):
        write(tmp_path / name, seed, reconstructor=name)
    write(tmp_path / "square", 3, protocol="fastmri-v1+square")
    write(tmp_path / "masked", 4, mask="equispaced")
    write(tmp_path / "faster", 5, acceleration=8.0)
    write(tmp_path / "phantom", 6, origin="simulated-from-phantom")
    write(tmp_path / "drawn", 7, mask_draw=1)
    write(tmp_path / "shorter", 8, n_slices=3)
    write(tmp_path / "theirs", 9, foreign_row)
    return tmp_path


def test_two_folders_are_enough(tables, capsys):
    assert main(["a", "b"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "2 compared on the same 7 volumes of 7 patients (measured)" in out
    assert out.splitlines()[-1].startswith(
        "a and b were compared on the same 7 volumes of 7 patients (measured k-space)"
    )
    assert sorted(path.name for path in tables.iterdir() if path.is_file()) == []


def test_flags_files_and_many_words(tables, capsys):
    words = ["a", "b/volumes.csv", "c", "--metric", "ssim", "--margin", "0.05", "--names", "x", "y", "z", "-o", "out"]
    assert main([*words, "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "tables: out"
    result = json.loads((tables / "out" / "comparison.json").read_text())
    assert [item["name"] for item in result["items"]] == ["x", "y", "z"]
    assert [c["margin"] for c in result["comparisons"]["ssim"]] == [0.05, 0.05]
    assert main(words) == 2
    assert main([*words, "--overwrite"]) == 0


def test_undeclared_needs_leave(tables, capsys):
    assert main(["a", "theirs"]) == 2
    assert "theirs declares no mask or acceleration" in capsys.readouterr().err
    assert main(["a", "theirs", "--allow-undeclared"]) == 0
    assert "Masks or accelerations of theirs are undeclared" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "compare takes two or more runs or tables, got 0"),
        (["a"], "compare takes two or more runs or tables, got 1"),
        (["a", "nothing"], "no run folder or table at nothing"),
        (["a", "square"], "different protocols: fastmri-v1 in a, fastmri-v1+square in square"),
        (["a", "masked"], "different masks: random in a, equispaced in masked"),
        (["a", "faster"], "different accelerations: 4x in a, 8x in faster"),
        (["a", "phantom"], "different origins: measured in a, simulated-from-phantom in phantom"),
        (["a", "drawn"], "different mask draws of v0.h5: 0 at 4x in a, 1 at 4x in drawn"),
        (["a", "shorter"], "different numbers of scored slices of v0.h5: 12 in a, 3 in shorter"),
        (["a", "b", "--metric", "mse"], "unknown metric 'mse'"),
        (["a", "b", "--margin", "-1"], "--margin -1"),
        (["a", "b", "--acceleration", "fast"], "acceleration: Expected a float"),
        (["a", "b", "--metrc", "ssim"], "did you mean '--metric'"),
        (["a", "b", "--output", "c"], "holds something else"),
    ],
)
def test_wrong_calls_exit_2_with_one_line_and_write_nothing(tables, words, message, capsys):
    before = sorted(tables.rglob("*"))
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tables.rglob("*")) == before


@pytest.mark.parametrize("words", [["--help"], ["--print-config"], ["a", "b"]])
def test_neither_help_nor_the_work_needs_torch(tables, words):
    code = (
        f"from mrirecon.cli.results import COMPARE; COMPARE({words!r}); import sys; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tables)
