"""The benchmark of time to quality: what counts as reached, and a whole run of it at a tiny size."""

import importlib.util
import math
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_time_to_quality.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_time_to_quality", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_quality_is_reached_where_three_checkpoints_in_a_row_have_it(script):
    run = script.Training([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.7, 0.8, 0.75, 0.8, 0.81, 0.82], 1.0)
    assert run.reaches(0.75) == 2.0
    assert run.reaches(0.8) == 4.0  # at 2 s it did not hold
    assert run.reaches(0.81) == math.inf  # two checkpoints alone have it
    assert script.Training([1.0, 2.0], [0.9, 0.9], 1.0).reaches(0.5) == math.inf


def test_quality_at_a_time_lies_between_the_checkpoints_before_and_after(script):
    run = script.Training([1.0, 2.0, 3.0], [0.7, 0.8, 0.75], 1.0)
    assert math.isnan(run.at(0.5))
    assert [run.at(seconds) for seconds in (1.0, 1.5, 2.9, 99)] == pytest.approx([0.7, 0.75, 0.755, 0.75])


def test_a_row_says_how_many_times_as_fast_and_how_much_better(script):
    theirs = script.Training([30.0, 60.0, 90.0, 120.0], [0.7, 0.8, 0.83, 0.82], 4.0)
    sixth = script.Training([5.0, 10.0, 15.0, 20.0], [0.8, 0.83, 0.84, 0.85], 6.0)
    whole = script.Training([30.0, 60.0, 90.0, 120.0], [0.82, 0.84, 0.86, 0.88], 6.0)
    # .83 after 10 s, 120 / 10; with start-up 124 / 16; at 20 s fastMRI has no checkpoint yet
    assert script.row_of(3, theirs, sixth, whole) == (
        "3 | 0.8300 120.0 4.0 | 10.0 12.00x 7.75x 6.0 | 0.8500 20.0 +nan | 0.8800 120.0 +0.0600"
    )


@pytest.mark.slow  # three trainings of fastMRI and mrirecon from the command line
def test_it_runs_from_data_to_picture(script, tmp_path, capsys):
    small = ["--steps", "12", "--coils", "2", "--matrix", "64", "64", "--volumes", "3", "1", "--seeds", "0"]
    script.main(["--out", str(tmp_path), *small, "--channels", "4", "--figure", str(tmp_path / "curves.png")])
    head, row = capsys.readouterr().out.splitlines()
    assert len(row.split("|")) == len(head.split("|"))
    assert (tmp_path / "curves.png").stat().st_size > 5000
