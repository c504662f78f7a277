"""The line after `next:` is a call that works, in folders with spaces too, and scores what was validated."""

import json
import shlex

import h5py
import pytest

from mrirecon.cli import main
from mrirecon.evaluation.results import read_results

TINY = [
    "--channels",
    "2",
    "--pools",
    "1",
    "--max-steps",
    "2",
    "--precision",
    "fp32",
    "--threads",
    "1",
    "--device",
    "cpu",
    "--quiet",
]


def next_call(text):
    """The words after `next:`, without the program's name."""
    (line,) = [line for line in text.splitlines() if line.startswith("next:")]
    program, *words = shlex.split(line.removeprefix("next:"))
    assert program == "mrirecon"
    return words


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    (tmp_path / "a place").mkdir()
    monkeypatch.chdir(tmp_path / "a place")


def run(words, capsys):
    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().out


def test_from_simulation_to_scores(capsys):
    sizes = [
        "--train",
        "2",
        "--val",
        "1",
        "--test",
        "1",
        "--slices",
        "2",
        "--matrix",
        "32",
        "32",
        "--coils",
        "2",
        "--quiet",
    ]
    words = next_call(run(["data", "simulate", "my data", *sizes], capsys))
    assert words == ["train", "--data", "my data"]
    words = next_call(run([*words, *TINY, "-o", "my run"], capsys))
    assert words == ["evaluate", "my run", "--split", "val"]
    run([*words, "--quiet"], capsys)
    words = next_call(run(["reconstruct", "my run", "my data/test", "-o", "my images", "--quiet"], capsys))
    assert words == ["score", "my images", "TARGETS"]
    run([*words[:-1], "my data/test", "--quiet"], capsys)


def test_what_was_validated_is_scored(capsys, volume_writer, tmp_path):
    """Of single-coil and multi-coil folders, some acquisitions, volumes and slices; weights of the end alone."""
    for kind, n_coils in (("single", 1), ("multi", 3)):
        for split in ("train", "val"):
            for i, acquisition in enumerate(("AXT1", "AXT2", "AXT1", "AXT1")):
                path = tmp_path / "a place" / "data" / f"{kind}coil_{split}" / f"{split}{i}.h5"
                path.parent.mkdir(parents=True, exist_ok=True)
                volume_writer(path, n_coils=n_coils, acquisition=acquisition, seed=i, n_slices=4, matrix=(32, 32))
    with h5py.File(tmp_path / "a place" / "data" / "multicoil_val" / "val0.h5", "r+") as file:
        file["reconstruction_rss"][...] *= 3
    chosen = ["--coils", "multi", "--acquisition", "AXT1", "--volumes", "2", "--slices", "1", "2"]
    warned = ["--data.check-reference", "warn", "--checkpoints", "end"]
    words = next_call(run(["train", "--data", "data", *TINY, *chosen, *warned, "-o", "run"], capsys))
    assert words == ["evaluate", "run", "--split", "val", "--checkpoint", "last"]
    run([*words, "-o", "scores", "--quiet"], capsys)
    results = read_results(tmp_path / "a place" / "scores" / "volumes.csv")
    assert {(r.acquisition, r.n_slices) for r in results} == {("AXT1", 2)}
    assert len(results) == 2
    assert all(r.volume.startswith("multicoil_val/") for r in results)


@pytest.fixture
def flat(volume_writer, tmp_path, capsys):
    """A run on a flat folder of five files, and another folder of five."""
    for folder in ("own", "foreign"):
        for i in range(5):
            volume_writer(tmp_path / "a place" / folder / f"{folder}{i}.h5", seed=i, n_slices=1, matrix=(32, 32))
    run(["train", "--data", "own", *TINY, "--slices", "0", "0", "-o", "run"], capsys)
    return tmp_path / "a place"


def scored(folder):
    return {r.volume for r in read_results(folder / "volumes.csv")}


def test_of_a_flat_folder_that_the_run_was_not_trained_on_all_files_are_scored(flat, capsys):
    for data, n in (("own", 1), ("foreign", 5)):
        assert main(["evaluate", "run", "--data", data, "-o", data + " scores"]) == 0
        assert len(scored(flat / f"{data} scores")) == n
        err = capsys.readouterr().err
        assert ("note: foreign is not what run was trained on; all 5 files are scored" in err) == (data == "foreign")
    assert main(["evaluate", "zero-filled", "--data", "own", "-o", "zf"]) == 0
    assert "note: own has 5 files; scored are those that training takes as val" in capsys.readouterr().err
    assert scored(flat / "zf") == scored(flat / "own scores")


def test_a_moved_folder_is_still_the_runs_own(flat, capsys):
    (flat / "own").rename(flat / "moved")
    assert main(["evaluate", "run", "--data", "moved", "-o", "scores"]) == 0
    assert len(scored(flat / "scores")) == 1
    (trained, *_) = json.loads((flat / "run" / "split.json").read_text())["train"]
    (flat / "moved" / trained).rename(flat / "foreign" / trained)
    assert main(["evaluate", "run", "--data", "foreign", "-o", "mixed"]) == 0
    assert len(scored(flat / "mixed")) == 6
    assert f"note: 1 of them have the names of training files ({trained})" in capsys.readouterr().err
