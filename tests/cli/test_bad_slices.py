"""A bad slice that only a worker process meets ends every command as it does without workers."""

import multiprocessing
import time

import h5py
import numpy as np
import pytest

from mrirecon.cli import main

SMALL = ("--channels", "4", "--pools", "2", "--max-steps", "400", "--precision", "fp32", "--quiet", "--device", "cpu")
QUICK = ("--data.check", "quick")
COMMANDS = {  # name -> split with the bad file, and the words
    "train": ("train", ("train", "--data", "DATA", *QUICK, "-o", "run", *SMALL)),
    "validation": ("val", ("train", "--data", "DATA", *QUICK, "-o", "run", *SMALL)),
    "evaluate": ("val", ("evaluate", "zero-filled", "--data", "DATA", *QUICK, "-o", "scores", "--quiet")),
    "reconstruct": ("val", ("reconstruct", "zero-filled", "DATA/val", "--check", "quick", "-o", "images", "--quiet")),
}


@pytest.fixture
def with_nan(tmp_path, volume_writer, monkeypatch):
    """Makes data whose second file of a split has NaN in slice 0, which quick checks miss; and words that name it."""
    monkeypatch.chdir(tmp_path)

    def make(split, words):
        for folder in ("train", "val"):
            (tmp_path / "data" / folder).mkdir(parents=True)
            for i in range(3):
                volume_writer(tmp_path / "data" / folder / f"{folder}{i}.h5", n_coils=2, matrix=(32, 32), seed=i)
        with h5py.File(tmp_path / "data" / split / f"{split}1.h5", "r+") as file:
            file["kspace"][0, 0, 3, 3] = np.nan
        return [word.replace("DATA", str(tmp_path / "data")) for word in words]

    return make


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", COMMANDS)
def test_one_line_and_no_process_left(with_nan, tmp_path, capsys, name, workers):
    split, words = COMMANDS[name]
    words = with_nan(split, words)
    began = time.monotonic()
    assert main([*words, "--workers", str(workers)]) == 2
    assert time.monotonic() - began < 30
    prefix = "" if name == "reconstruct" else f"{split}/"
    assert capsys.readouterr().err == (
        f"mrirecon: {prefix}{split}1.h5: kspace holds NaN or infinity in slice 0; repair, replace or remove the file\n"
    )
    assert not multiprocessing.active_children()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.suffix in (".tmp", ".h5")}
    made = {"images/val0.h5"} if name == "reconstruct" else set()
    assert left == {f"data/{folder}/{folder}{i}.h5" for folder in ("train", "val") for i in range(3)} | made


@pytest.mark.slow  # two processes that import torch for each command: about 15 s
@pytest.mark.parametrize("name", COMMANDS)
def test_several_processes(with_nan, capfd, name):
    split, words = COMMANDS[name]
    words = with_nan(split, words)
    began = time.monotonic()
    assert main([*words, "--workers", "2", "--devices", "2"]) == 2
    assert time.monotonic() - began < 60
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("mrirecon: ")]
    assert len(lines) == 1
    assert f"{split}1.h5: kspace holds NaN or infinity in slice 0; repair, replace or remove the file" in lines[0]
