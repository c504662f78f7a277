"""A run that was stopped and resumed equals the uninterrupted one, bit for bit."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from mrirecon import configfile
from mrirecon.config import (
    AugmentConfig,
    AverageConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from mrirecon.errors import InputError, Stopped
from mrirecon.runs import open_run
from mrirecon.training.checkpoints.read import hash_file
from mrirecon.training.checkpoints.write import CheckpointFiles
from mrirecon.training.loop.validation import Validation
from mrirecon.training.module import ReconModule
from mrirecon.training.recipe.optimizers import OPTIMIZERS
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.train import train

TIMES = {"slices_per_s", "seconds"}


def stop_at_batch(monkeypatch, number):
    """A SIGTERM arrives while batch `number` is under way."""
    original = ReconModule.on_train_batch_start

    def arriving(self, batch, batch_idx):
        if batch_idx == number:
            signal.raise_signal(signal.SIGTERM)
        original(self, batch, batch_idx)

    monkeypatch.setattr(ReconModule, "on_train_batch_start", arriving)


def stopped_and_resumed(monkeypatch, config, number):
    with monkeypatch.context() as patch:
        stop_at_batch(patch, number)
        with pytest.raises(Stopped, match="--resume"):
            train(config)
    return resume_training(config.output, config)


def checkpoint(run, which="last"):
    return torch.load(run.checkpoint(which), weights_only=True)


def curve_rows(run):
    with run.curves.open() as handle:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(handle)]


def assert_equal(a, b):
    """Bit for bit, through dictionaries and lists."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def assert_same_run(a, b):
    for which in ("last", "best"):
        first, second = checkpoint(a, which), checkpoint(b, which)
        assert first["global_step"] == second["global_step"]
        torch.testing.assert_close(first["state_dict"], second["state_dict"], rtol=0, atol=0)
        assert_equal(first["optimizer_states"], second["optimizer_states"])
        assert first["lr_schedulers"] == second["lr_schedulers"]
        for key in ("training_weights", "average"):
            assert_equal(first.get(key), second.get(key))
    assert curve_rows(a) == curve_rows(b)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [2, 3, 8])  # mid-epoch, where a validation is due, in the second epoch
@pytest.mark.cells(2)
def test_stopped_mid_epoch_and_resumed_equals_uninterrupted(quick, monkeypatch, workers, number):
    data = replace(quick().data, workers=workers)
    whole = train(quick("whole", data=data))
    parts = stopped_and_resumed(monkeypatch, quick("parts", data=data), number)
    assert_same_run(whole, parts)


def test_a_second_stop_while_the_owed_validation_runs_trains_no_further(quick, monkeypatch):
    """As a job that is preempted again does."""
    whole, config = train(quick("whole")), quick("parts")
    scored = Validation._score_batch

    def arriving(self, *args):
        signal.raise_signal(signal.SIGTERM)
        scored(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "_score_batch", arriving)
        with pytest.raises(Stopped, match="at step 4 of 11"):
            train(config)
        with pytest.raises(Stopped, match="at step 4 of 11"):
            resume_training(config.output, config)
    assert checkpoint(open_run(config.output))["callbacks"]["Keeper"]["owes_validation"]
    assert_same_run(whole, resume_training(config.output, config))


def test_augmented_slices_come_again_after_a_resume(quick, monkeypatch):
    """Whose masks stay, while what is done to them is drawn anew in each epoch."""
    changes = {"data": replace(quick().data, fixed_masks=True), "max_steps": 8}
    augment = AugmentConfig(flip=0.5, rotate90=0.5, shift=2, scale=0.1, rotate=10.0, contrast=0.2)
    whole = train(quick("whole", augment=augment, **changes))
    assert_same_run(whole, stopped_and_resumed(monkeypatch, quick("parts", augment=augment, **changes), 6))
    weights = [checkpoint(run)["state_dict"] for run in (whole, train(quick("plain", **changes)))]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 3},
        {"optimizer": OptimizerConfig(name="gd", lr=0.05)},
        {"optimizer": OptimizerConfig(name="rmsprop", lr=1e-3)},
        {"clip": 0.5, "model": ModelConfig(channels=4, pools=2, norm="group")},
        {"average": AverageConfig("ema", decay=0.7)},
        {"average": AverageConfig("swa", start=0.2)},
        {"average": AverageConfig("swa", start=0.8)},
        {"optimizer": OptimizerConfig("schedulefree_adamw", 1e-2), "accumulate": 3},
        {"schedule": ScheduleConfig("plateau", factor=0.5, patience=0), "val_every": 1},
        {"loss": "l1_ssim", "model": ModelConfig("normunet", "complex", channels=4, pools=2, norm="batch")},
    ],
    ids="-".join,
)
@pytest.mark.cells(4)
def test_other_settings_resume_exactly_too(quick, monkeypatch, changes):
    whole = train(quick("whole", max_steps=5, **changes))
    parts = stopped_and_resumed(
        monkeypatch, quick("parts", max_steps=5, **changes), 7 if "accumulate" in changes else 2
    )
    assert_same_run(whole, parts)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "gd"])
@pytest.mark.cells(4)
def test_every_optimizer_resumes_exactly(quick, monkeypatch, name):
    optimizer = OptimizerConfig(name, 1e-2, weight_decay=1e-3)
    config = quick("whole", max_steps=4, val_every=2, optimizer=optimizer)
    whole = train(config)
    parts = stopped_and_resumed(monkeypatch, replace(config, output=f"{config.output}-parts"), 2)
    assert_same_run(whole, parts)


def test_several_stops_and_several_accelerations(quick, monkeypatch):
    data = replace(quick().data, acceleration=[4, 8])
    whole = train(quick("whole", data=data))
    config = quick("parts", data=data)
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 1)
        with pytest.raises(Stopped):
            train(config)
    for number in (5, 6):
        with monkeypatch.context() as patch:
            stop_at_batch(patch, number)
            with pytest.raises(Stopped):
                resume_training(config.output, config)
    assert_same_run(whole, resume_training(config.output, config))


def test_a_stop_in_the_last_step_finishes_the_run(quick, monkeypatch):
    whole = train(quick("whole", max_steps=3))
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 2)
        late = train(quick("late", max_steps=3))
    assert_same_run(whole, late)


def test_a_finished_run_stays_and_says_so(quick, capsys):
    config = quick(max_steps=3)
    run = train(config)
    before = run.weights.read_bytes(), curve_rows(run)
    assert "no step was left" not in capsys.readouterr().err
    resume_training(config.output, config)
    assert "the run had ended before, at step 3; no step was left to do" in capsys.readouterr().err
    assert (run.weights.read_bytes(), curve_rows(run)) == before


def test_resume_refuses_what_would_change_the_result(quick, monkeypatch, tmp_path):
    config = quick()
    with pytest.raises(InputError, match="no run folder"):
        resume_training(str(tmp_path / "nothing"), config)
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 1)
        with pytest.raises(Stopped):
            train(config)
    with pytest.raises(InputError, match="'optimizer.lr' cannot change"):
        resume_training(config.output, config, ["optimizer.lr"])
    moved = replace(config, data=DataConfig(path=str(tmp_path)))
    with pytest.raises(InputError, match=r"no \.h5 file"):
        resume_training(config.output, moved, ["data.path"])


def test_resume_refuses_other_data(quick, monkeypatch, tmp_path, volume_writer):
    config = quick()
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 1)
        with pytest.raises(Stopped):
            train(config)
    for split in ("train", "val"):
        (tmp_path / "other" / split).mkdir(parents=True)
        volume_writer(tmp_path / "other" / split / f"{split}.h5", matrix=(32, 32))
    other = replace(config, data=DataConfig(path=str(tmp_path / "other")))
    with pytest.raises(InputError, match="not those"):
        resume_training(config.output, other, ["data.path"])


def test_resume_refuses_a_damaged_run_in_one_line(quick, monkeypatch):
    config = quick()
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 1)
        with pytest.raises(Stopped):
            train(config)
    run = open_run(config.output)
    settings = run.config.read_text()
    run.config.write_text(settings.replace("lr: 0.01", "lr: 0.02"))
    with pytest.raises(InputError, match=r"was edited: optimizer\.lr is 0\.02, the run was trained with 0\.01"):
        resume_training(config.output, config)
    run.config.write_text(settings)
    provenance = run.provenance.read_text()
    run.provenance.unlink()
    with pytest.raises(InputError, match="does not name the training data"):
        resume_training(config.output, config)
    run.provenance.write_text(provenance)
    whole = run.checkpoint("last").read_bytes()
    for part in (b"", b"hello", whole[:5000]):
        run.checkpoint("last").write_bytes(part)
        with pytest.raises(InputError, match=r"last\.ckpt is damaged") as caught:
            resume_training(config.output, config)
        assert "\n" not in str(caught.value)


def test_automatic_precision_stays_what_it_was(quick, monkeypatch):
    """Another machine would resolve `auto` in another way; the run goes on as it began."""
    from mrirecon.workflows.setup import training_work

    config = quick(precision="auto")
    monkeypatch.setattr(training_work, "auto_precision", lambda _device: "32-true")
    whole = train(replace(config, output=f"{config.output}-whole"))
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 3)
        with pytest.raises(Stopped):
            train(config)
    monkeypatch.setattr(training_work, "auto_precision", lambda _device: "bf16-mixed")
    assert_same_run(whole, resume_training(config.output, config))


def test_muon_of_an_earlier_version_goes_on_with_its_schedule_and_momentum(quick, monkeypatch):
    """`auto` was onecycle for it, and its own momentum 0.95; the run's files say neither."""
    keys = {"optimizer": OptimizerConfig("muon", 1e-2, momentum=0.95), "schedule": ScheduleConfig("onecycle")}
    whole = train(quick("whole", **keys))
    config = quick("parts", **keys)
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 5)
        with pytest.raises(Stopped):
            train(config)
    run = open_run(config.output)
    text = run.config.read_text()
    assert text.count("momentum: 0.95\n") == text.count("name: onecycle\n") == 1
    run.config.write_text(
        text.replace("momentum: 0.95\n", "momentum: null\n").replace("name: onecycle\n", "name: auto\n")
    )
    state = checkpoint(run)
    settings = state["callbacks"]["Keeper"]["settings"]
    assert settings.pop("schedule") == "onecycle"
    settings |= {"optimizer.momentum": None, "schedule.name": "auto"}
    torch.save(state, run.checkpoint("last"))
    hash_file(run.checkpoint("last")).unlink()
    with monkeypatch.context() as patch:  # and its next checkpoints say it
        stop_at_batch(patch, 8)
        with pytest.raises(Stopped):
            resume_training(config.output, TrainConfig())
    assert checkpoint(run)["callbacks"]["Keeper"]["settings"]["schedule"] == "onecycle"
    assert_same_run(whole, resume_training(config.output, TrainConfig()))


def test_a_kill_between_best_and_last_loses_neither(quick, monkeypatch):
    """`best` is written first; the run goes on from the older `last` and makes the same `best` again."""
    whole = train(quick("whole"))
    config = quick("killed")

    def killed(files):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFiles, "copy_best", killed)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, checkpoint_every=3))
    run = open_run(config.output)
    assert checkpoint(run, "best")["global_step"] == 4
    assert checkpoint(run, "last")["global_step"] == 3
    resumed = resume_training(config.output, config)
    first, second = checkpoint(whole, "best"), checkpoint(resumed, "best")
    assert_equal(first["state_dict"], second["state_dict"])


def test_a_finished_run_is_left_as_it_is(quick):
    run = train(quick(max_steps=2))
    before = checkpoint(run)["state_dict"]
    resume_training(str(run.path), quick())
    torch.testing.assert_close(before, checkpoint(run)["state_dict"], rtol=0, atol=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.cells(1)
def test_a_real_process_saves_and_exits_75_and_goes_on(quick, tmp_path, number):
    """The whole program, with a real signal at a moment nobody chose."""
    config = quick("process", max_steps=60, val_every=10, checkpoint_every=5)
    configfile.save(replace(config, overwrite=True), tmp_path / "c.yaml")
    code = "import sys; from mrirecon.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "train", "-c", str(tmp_path / "c.yaml"), "--output", config.output]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    run = open_run_when_there(config.output, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert "mrirecon train --resume" in err
    assert 0 < checkpoint(run)["global_step"] < 60
    resumed = resume_training(config.output, TrainConfig())
    whole = train(replace(config, output=str(tmp_path / "whole")))
    assert_same_run(whole, resumed)


def test_signals_to_the_whole_job_save_too(quick, tmp_path):
    """A scheduler signals every process: workers must not die before the training has saved."""
    config = quick("job", max_steps=2000, val_every=2000, checkpoint_every=5)
    config = replace(config, overwrite=True, data=replace(config.data, workers=2))
    configfile.save(config, tmp_path / "c.yaml")
    code = "import sys; from mrirecon.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "train", "-c", str(tmp_path / "c.yaml")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    run = open_run_when_there(config.output, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert checkpoint(run)["global_step"] > 0


def test_a_second_ctrl_c_interrupts_at_once(quick, monkeypatch):
    def arriving(self, batch, batch_idx):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ReconModule, "on_train_batch_start", arriving)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(quick())
    assert signal.getsignal(signal.SIGINT) is before


def open_run_when_there(path, process):
    """The run folder, once its first checkpoint is written."""
    for _ in range(1200):
        if process.poll() is not None:
            pytest.fail(f"the process ended early: {process.stderr.read()}")
        try:
            run = open_run(path)
            if run.checkpoint("last").is_file():
                return run
        except InputError:
            pass
        time.sleep(0.05)
    return pytest.fail("no checkpoint after a minute")


@pytest.mark.parametrize("content", ["[]", "null", '{"data_manifest": null}', "{}", "no json"])
def test_facts_that_do_not_name_the_data_are_told(quick, monkeypatch, content):
    config = quick()
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 2)
        with pytest.raises(Stopped):
            train(config)
    open_run(config.output).provenance.write_text(content)
    with pytest.raises(InputError, match="does not name the training data"):
        resume_training(config.output, config)
