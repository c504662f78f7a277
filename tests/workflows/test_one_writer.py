"""One command at a time writes a run folder; a training notices when the folder is no longer its own, or gone."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from test_resume import assert_same_run

from mrirecon import configfile, runs
from mrirecon.config import EvaluateConfig
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.report.pages.run_page import run_report
from mrirecon.runs import RunFolder, open_run
from mrirecon.training.loop.curves import Curves
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.train import train


def write_lock(run, **changes):
    """As process 1 of this host, which is there, would have left it."""
    leases = runs.RunLock(run).leases
    holder = {
        **leases.me,
        "pid": 1,
        "born": Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19],
        "token": "t",
    }
    run.lock.write_text(json.dumps(holder | changes))


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_in_use_is_neither_resumed_nor_overwritten_but_evaluated_and_reported(quick):
    config = quick(max_steps=4)
    run = train(config)
    assert not run.lock.exists()
    write_lock(run)
    before = content(run.path)
    for call in (
        lambda: train(replace(config, overwrite=True)),
        lambda: train(config),
        lambda: resume_training(config.output, config),
    ):
        with pytest.raises(InputError, match=r"run is in use: process 1 on .* writes it; wait for its end or stop it"):
            call()
    assert content(run.path) == before
    evaluated = evaluate(EvaluateConfig(data=config.data, device="cpu", precision="fp32", figures=0), config.output)
    assert all((folder / "volumes.csv").is_file() for folder in evaluated)
    assert run_report(run.path).is_file()


def test_the_lock_that_a_killed_training_left_is_no_obstacle(quick):
    whole = train(quick("whole"))
    run = train(quick("killed", checkpoint_every=3))
    write_lock(run, born="1")  # another process has its number now
    resume_training(str(run.path), quick("killed"))
    assert_same_run(whole, run)
    assert not run.lock.exists()


def steps_of(run):
    with run.curves.open(newline="") as handle:
        return [int(row["step"]) for row in csv.DictReader(handle)]


def at_step(monkeypatch, step, do):
    """Do something in the middle of a training."""
    original = Curves.on_train_batch_end

    def on_train_batch_end(self, trainer, *arguments):
        if trainer.global_step == step:
            do()
        original(self, trainer, *arguments)

    monkeypatch.setattr(Curves, "on_train_batch_end", on_train_batch_end)


def test_a_training_that_lost_its_lock_ends_before_it_writes_again(quick, monkeypatch):
    monkeypatch.setattr(runs, "_LOCK_LIMIT_S", 0.3)
    config = quick(max_steps=60, val_every=60)
    run = RunFolder(Path(config.output))

    def lose():
        write_lock(run)
        time.sleep(0.3)

    at_step(monkeypatch, 21, lose)
    with pytest.raises(WorkFailedError, match="taken over by another command at step 22"):
        train(config)
    assert json.loads(run.lock.read_text())["pid"] == 1  # the other's is left alone
    assert steps_of(run) == [10, 20]


@pytest.mark.parametrize("step", [3, 9])
def test_a_run_folder_that_is_deleted_does_not_come_back(quick, monkeypatch, step):
    """Before a checkpoint, and before a row of the curves."""
    config = quick(max_steps=60, val_every=4)
    at_step(monkeypatch, step, lambda: shutil.rmtree(config.output))
    with pytest.raises(WorkFailedError, match=r"run was deleted or moved away while it was trained, at step \d+: noth"):
        train(config)
    assert not os.path.lexists(config.output)


def test_a_run_folder_that_is_moved_goes_on_at_its_new_place(quick, monkeypatch):
    whole = train(quick("whole"))
    config = quick("old")
    with monkeypatch.context() as patch:
        at_step(patch, 6, lambda: Path(config.output).rename(f"{config.output}er"))
        with pytest.raises(WorkFailedError, match="if it was moved, go on with mrirecon train --resume"):
            train(config)
    assert not os.path.lexists(config.output)
    RunFolder(Path(f"{config.output}er")).lock.unlink()  # of this process, which lives, as no other would
    assert_same_run(whole, resume_training(f"{config.output}er", config))


@pytest.mark.slow  # two whole processes, on cores that others may use
def test_of_two_that_overwrite_a_run_at_once_one_does(quick, tmp_path):
    first = train(quick(max_steps=1))
    configfile.save(quick(max_steps=400, val_every=50, overwrite=True), tmp_path / "c.yaml")
    command = [sys.executable, "-m", "mrirecon", "train", "-c", str(tmp_path / "c.yaml"), "--quiet"]
    both = [
        subprocess.Popen([*command, "--seed", str(seed)], stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)
        for seed in (1, 2)
    ]
    said = [process.communicate(timeout=200)[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], said
    assert said[codes.index(2)].count("\n") == 1
    assert f"is in use: process {both[codes.index(0)].pid} on" in said[codes.index(2)]
    rows = steps_of(open_run(first.path))
    assert rows == sorted(rows)
    assert max(Counter(rows).values()) <= 2  # a training row and a validation
