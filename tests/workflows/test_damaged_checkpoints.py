"""A run whose last checkpoint is damaged, or was never finished, ends as if nothing had happened."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from killed_writes import Killed, death
from test_checkpoints_end import assert_same_last
from test_resume import assert_same_run, checkpoint, curve_rows, open_run_when_there, stop_at_batch

from mrirecon import configfile, progress
from mrirecon.errors import InputError, Stopped
from mrirecon.runs import open_run
from mrirecon.training.checkpoints.read import hash_file
from mrirecon.training.module import ReconModule
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.train import train


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(path):
    os.truncate(path, path.stat().st_size - 1)


def emptied(path):
    os.truncate(path, 0)


def removed(path):
    path.unlink()


def stopped(monkeypatch, config, number):
    with monkeypatch.context() as patch:
        stop_at_batch(patch, number)
        with pytest.raises(Stopped):
            train(config)
    return open_run(config.output)


@pytest.mark.parametrize("damage", [flipped, truncated, emptied, removed])
@pytest.mark.parametrize("number", [6, 9])  # after the validation of step 4; after that of step 8, which made a `best`
@pytest.mark.cells(4)
def test_the_one_before_is_used_and_the_end_is_the_same(quick, monkeypatch, capsys, damage, number):
    whole = train(quick("whole"))
    config = quick("damaged")
    run = stopped(monkeypatch, config, number)
    last, previous = checkpoint(run)["global_step"], checkpoint(run, "previous")["global_step"]
    assert previous < last == number + 1
    damage(run.checkpoint("last"))
    capsys.readouterr()
    monkeypatch.setattr(progress, "quiet", True)
    resumed = resume_training(config.output, config)
    word = "missing" if damage is removed else "damaged"
    assert capsys.readouterr().err == (
        f"warning: last.ckpt is {word} in {run.checkpoints}; the run goes on from previous.ckpt, the checkpoint "
        "before it\n"
    )
    assert_same_run(whole, resumed)


def test_damaged_in_the_runs_of_a_study_too(quick, monkeypatch):
    whole = train(quick("whole", checkpoints="end"))
    config = quick("damaged", checkpoints="end", checkpoint_every=3)
    flipped(stopped(monkeypatch, config, 7).checkpoint("last"))
    assert_same_last(whole, resume_training(config.output, config))


@pytest.mark.parametrize("checkpoints", ["all", "end"])
def test_a_validation_that_was_owed_and_done_is_done_again_and_written_once(quick, monkeypatch, checkpoints):
    """`previous` is the state of the stop, which owes the validation of step 4; its row is there from the lost part."""
    whole = train(quick("whole", checkpoints=checkpoints))
    config = quick("owing", checkpoints=checkpoints)
    run = stopped(monkeypatch, config, 3)
    with monkeypatch.context() as patch:
        patch.setattr(ReconModule, "training_step", killed)
        with pytest.raises(KeyboardInterrupt):
            resume_training(config.output, config)
    assert {checkpoint(run, which)["global_step"] for which in ("last", "previous")} == {4}
    assert [row["step"] for row in curve_rows(run)] == ["4"]
    flipped(run.checkpoint("last"))
    (assert_same_run if checkpoints == "all" else assert_same_last)(whole, resume_training(config.output, config))


def killed(*_arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("bad", "said"), [(flipped, "damaged"), (removed, "missing")])
def test_with_both_bad_the_error_says_what_to_do(quick, monkeypatch, bad, said):
    config = quick()
    run = stopped(monkeypatch, config, 6)
    flipped(run.checkpoint("last"))
    bad(run.checkpoint("previous"))
    with pytest.raises(InputError) as caught:
        resume_training(config.output, config)
    assert str(caught.value) == (
        f"{run.path} cannot go on: last.ckpt is damaged and previous.ckpt is {said}; start again: "
        f"mrirecon train -c {run.config}"
    )


def test_without_hash_files_a_checkpoint_counts_when_it_can_be_loaded(quick, monkeypatch, capsys):
    """As earlier versions left them."""
    whole = train(quick("whole"))
    config = quick("old")
    run = stopped(monkeypatch, config, 6)
    for which in ("last", "previous", "best"):
        hash_file(run.checkpoint(which)).unlink()
    shutil.copytree(run.path, run.path.with_name("cut"))
    capsys.readouterr()
    assert_same_run(whole, resume_training(config.output, config))
    assert "warning" not in capsys.readouterr().err
    truncated(open_run(run.path.with_name("cut")).checkpoint("last"))
    assert_same_run(whole, resume_training(str(run.path.with_name("cut")), config))
    assert "warning: last.ckpt is damaged" in capsys.readouterr().err


def test_a_finished_run_keeps_no_previous(quick, monkeypatch):
    config = quick()
    run = stopped(monkeypatch, config, 6)
    names = {"last.ckpt", "previous.ckpt", "best.ckpt"}
    assert {path.name for path in run.checkpoints.iterdir()} == names | {f"{name}.sha256" for name in names}
    resume_training(config.output, config)
    command = ["sha256sum", "--check", "--strict", "--quiet", "last.ckpt.sha256", "best.ckpt.sha256"]
    subprocess.run(command, cwd=run.checkpoints, check=True)
    names.remove("previous.ckpt")
    assert {path.name for path in run.checkpoints.iterdir()} == names | {f"{name}.sha256" for name in names}


SAVES = {"checkpoint_every": 3, "max_steps": 9}


def killed_and_resumed(quick, number, whole):
    config = quick(f"at{number}", **SAVES)
    with pytest.raises(Killed), death(f"{config.output}/checkpoints", number):
        train(config)
    run = open_run(config.output)
    if any(run.checkpoint(which).is_file() for which in ("last", "previous")):
        assert_same_run(whole, resume_training(config.output, config))
        return 1
    return 0


def n_changes(quick, tmp_path):
    with death(tmp_path / "whole" / "checkpoints") as dying:
        whole = train(quick("whole", **SAVES))
    return dying.n, whole


def test_killed_while_it_saves_and_resumed(quick, tmp_path):
    n, whole = n_changes(quick, tmp_path)
    assert sum(killed_and_resumed(quick, number, whole) for number in range(n // 3, n + 1, n // 6)) > 3


@pytest.mark.slow
def test_killed_at_any_change_and_resumed(quick, tmp_path):
    n, whole = n_changes(quick, tmp_path)
    assert sum(killed_and_resumed(quick, number, whole) for number in range(1, n + 1)) > n - 20


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_real_process_killed_again_and_again(quick, tmp_path, workers):
    """SIGKILL at moments nobody chose, in a run that saves at every step."""
    config = quick("process", max_steps=150, val_every=10, checkpoint_every=1)
    config = replace(config, data=replace(config.data, workers=workers))
    configfile.save(config, tmp_path / "c.yaml")
    code = "import sys; from mrirecon.cli import main; sys.exit(main())"
    begin = [sys.executable, "-c", code, "train", "-c", str(tmp_path / "c.yaml")]
    go_on = [sys.executable, "-c", code, "train", "--resume", config.output]
    rng, n_kills = random.Random(workers), 0
    process = subprocess.Popen(begin, stderr=subprocess.PIPE, text=True, start_new_session=True)
    run = open_run_when_there(config.output, process)
    while process.poll() is None and n_kills < 5:
        time.sleep(rng.uniform(0, 0.4))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        n_kills += 1
        before = run.checkpoint("last").stat().st_mtime_ns
        process = subprocess.Popen(go_on, stderr=subprocess.PIPE, text=True, start_new_session=True)
        while process.poll() is None and run.checkpoint("last").stat().st_mtime_ns == before:
            time.sleep(0.01)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert n_kills > 3
    assert not list(run.checkpoints.glob(".*"))
    assert_same_run(train(replace(config, output=str(tmp_path / "whole"))), run)
