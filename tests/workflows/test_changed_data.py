"""Files that change while a command works with them, or before a run goes on: nothing wrong is kept or written."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from reconstructions import config as reconstruct_config
from reconstructions import images, write_files

from mrirecon.config import DataConfig, EvaluateConfig, ScoreConfig
from mrirecon.errors import DataChangedError, InputError, Stopped
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.runs import open_run
from mrirecon.training.loop.curves import Journal
from mrirecon.training.loop.validation import Validation
from mrirecon.training.module import ReconModule
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.reconstruct import reconstruct
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.score import score, score_pairs
from mrirecon.workflows.train import train


@pytest.fixture
def data(small_data, tmp_path):
    return shutil.copytree(small_data, tmp_path / "data")


@pytest.fixture
def own(quick, data):
    """A configuration of a run on data of its own: 11 steps, a validation every 4."""
    return lambda name="run", **changes: quick(name, data=DataConfig(path=str(data)), **changes)


class Short:
    """Cuts a file off, and puts it back as it was."""

    def __init__(self, path):
        self.path, self.content, stat = path, path.read_bytes(), path.stat()
        self.times = (stat.st_atime_ns, stat.st_mtime_ns)
        os.truncate(path, 5000)

    def put_back(self):
        self.path.write_bytes(self.content)
        os.utime(self.path, ns=self.times)


def during(monkeypatch, of, name, do, at):
    """Calls `do` at call number `at`, from 0, of a method."""
    original, n = getattr(of, name), iter(range(10**6))

    def changing(*args, **kwargs):
        if next(n) == at:
            do()
        return original(*args, **kwargs)

    monkeypatch.setattr(of, name, changing)


def saved(run):
    return {which: torch.load(run.checkpoint(which), weights_only=True) for which in ("last", "best")}


def edit(path, key="kspace"):
    before = path.stat()
    with h5py.File(path, "r+") as file:
        file[key][0] = file[key][0] * np.float32(1.001)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert path.stat().st_size == before.st_size


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_keeps_what_it_had_and_goes_on_from_there(own, data, monkeypatch, workers):
    """Of train, while batch 6 of 11 is under way."""
    whole = saved(train(own("whole")))
    config, cut = own(), []
    config = replace(config, data=replace(config.data, workers=workers))
    with monkeypatch.context() as patch:
        change = lambda: cut.extend(map(Short, sorted((data / "train").iterdir())))  # noqa: E731
        during(patch, ReconModule, "on_train_batch_start", change, 5)
        with pytest.raises(DataChangedError, match=r"^train/train\d\.h5: changed after it was checked, it had"):
            train(config)
    run = open_run(config.output)
    assert {which: state["global_step"] for which, state in saved(run).items()} == {"last": 4, "best": 4}
    assert not run.weights.exists()
    with pytest.raises(InputError, match="train0.h5"):
        resume_training(config.output, config)
    for file in cut:
        file.put_back()
    resumed = saved(resume_training(config.output, config))
    for which, state in whole.items():
        torch.testing.assert_close(resumed[which]["state_dict"], state["state_dict"], rtol=0, atol=0)


def test_the_error_says_which_checkpoint_is_kept(own, data, monkeypatch):
    config = own()
    during(monkeypatch, ReconModule, "on_train_batch_start", lambda: Short(data / "train" / "train0.h5"), 6)
    with pytest.raises(DataChangedError, match=rf"step 4 is kept: go on with mrirecon train --resume {config.output}$"):
        train(config)


def test_before_the_first_checkpoint_nothing_is_kept(own, data, monkeypatch):
    config = own()
    during(monkeypatch, ReconModule, "on_train_batch_start", lambda: Short(data / "train" / "train0.h5"), 1)
    with pytest.raises(
        DataChangedError, match=r"no checkpoint yet: start again with mrirecon train -c .*config\.yaml$"
    ):
        train(config)
    assert not list(open_run(config.output).checkpoints.glob("*"))


def test_a_validation_of_changed_data_is_not_reported(own, data, monkeypatch):
    """A training file that no batch is read of any more, in the validation of the last step."""
    config = own()
    during(monkeypatch, Validation, "__call__", lambda: Short(data / "train" / "train1.h5"), 2)
    with pytest.raises(DataChangedError, match=r"^train/train1\.h5: .*; the checkpoint of step 8 is kept"):
        train(config)
    run = open_run(config.output)
    assert [int(row["step"]) for row in Journal(run.curves).rows() if row["val_ssim"]] == [4, 8]
    assert {state["global_step"] for state in saved(run).values()} <= {4, 8}
    assert not run.weights.exists()


def test_a_stop_does_not_save_it_either(own, data, monkeypatch):
    """SIGTERM comes with the change, while a batch that was read before is under way."""
    config = own()

    def both():
        Short(data / "val" / "val0.h5")
        signal.raise_signal(signal.SIGTERM)

    during(monkeypatch, ReconModule, "on_train_batch_start", both, 5)
    with pytest.raises(DataChangedError, match=r"^val/val0\.h5: .*; the checkpoint of step 4 is kept"):
        train(config)
    assert saved(open_run(config.output))["last"]["global_step"] == 4


def stopped(own, monkeypatch):
    config = own()
    with monkeypatch.context() as patch:
        during(patch, ReconModule, "on_train_batch_start", lambda: signal.raise_signal(signal.SIGTERM), 2)
        with pytest.raises(Stopped):
            train(config)
    return config


@pytest.mark.parametrize("key", ["kspace", "reconstruction_rss"])
def test_a_run_does_not_go_on_with_edited_samples(own, data, monkeypatch, key):
    config = stopped(own, monkeypatch)
    edit(data / "train" / "train2.h5", key)
    says = r"are not those that .* was trained on: train/train2\.h5 has other samples than then \(last written at .*"
    with pytest.raises(InputError, match=says + r"\(1 of 6 files\).*or train anew: mrirecon train -c") as caught:
        resume_training(config.output, config)
    assert "\n" not in str(caught.value)


def test_a_run_goes_on_with_a_copy_of_its_data(own, data, monkeypatch, tmp_path, capsys):
    whole = saved(train(own("whole")))
    config = stopped(own, monkeypatch)
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(data)
    moved = replace(config, data=replace(config.data, path=str(tmp_path / "copy")))
    resumed = saved(resume_training(config.output, moved, ["data.path"]))
    torch.testing.assert_close(resumed["last"]["state_dict"], whole["last"]["state_dict"], rtol=0, atol=0)
    assert "note" not in capsys.readouterr().err.split("goes on")[-1]


def test_where_not_all_samples_were_read_a_copy_is_told(own, data, monkeypatch, capsys):
    quickly = lambda **changes: replace(own(**changes), data=DataConfig(path=str(data), check="quick"))  # noqa: E731
    config = stopped(quickly, monkeypatch)
    os.utime(data / "train" / "train2.h5")
    resume_training(config.output, config)
    assert "note: 1 files were written anew since the run began" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_has_no_record(own, monkeypatch, capsys):
    config = stopped(own, monkeypatch)
    open_run(config.output).data.unlink()
    resume_training(config.output, config)
    assert "without a record of samples" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "at"), [("val0", 1), ("val0", 5), ("val1", 1)])
def test_no_table_is_written(data, tmp_path, monkeypatch, name, at):
    """Six slices: val0 is cut off when it is half scored, and at the last slice of val1; val1 before it is read."""
    during(monkeypatch, Reconstructor, "__call__", lambda: Short(data / "val" / f"{name}.h5"), at)
    config = EvaluateConfig(data=DataConfig(path=str(data)), output=str(tmp_path / "out" / "tables"), device="cpu")
    with pytest.raises(DataChangedError, match=rf"^val/{name}\.h5: changed after it was checked"):
        evaluate(config, "zero-filled")
    assert not list((tmp_path / "out").iterdir())


def test_finished_reconstructions_are_kept_and_no_others_written(tmp_path, volume_writer, monkeypatch):
    """The second of three volumes changes after its last slice was read."""
    folder = write_files(tmp_path / "data", volume_writer)
    whole = reconstruct(replace(reconstruct_config(folder), output=str(tmp_path / "whole")), "zero-filled", [folder])
    names = sorted(path.name for path in folder.glob("*.h5"))
    with h5py.File(folder / names[0]) as first, h5py.File(folder / names[1]) as second:
        at = len(first["kspace"]) + len(second["kspace"]) - 1
    cut = []
    with monkeypatch.context() as patch:
        during(patch, Reconstructor, "__call__", lambda: cut.append(Short(folder / names[1])), at)
        config = replace(reconstruct_config(folder), output=str(tmp_path / "out"))
        with pytest.raises(DataChangedError, match=rf"^{names[1]}: changed after it was checked"):
            reconstruct(config, "zero-filled", [folder])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [names[0]]
    cut[0].put_back()
    done = reconstruct(config, "zero-filled", [folder])
    assert (done.n_volumes, done.n_left) == (2, 1)
    for name in names:
        np.testing.assert_array_equal(images(done.folder / name), images(whole.folder / name))


def test_targets_that_change_are_not_scored(data, tmp_path, monkeypatch):
    config = EvaluateConfig(data=DataConfig(path=str(data)), output=str(tmp_path / "e"), save=True, device="cpu")
    [folder] = evaluate(config, "zero-filled")

    def changed(*arguments):
        scores = score_pairs(*arguments)
        Short(data / "val" / "val0.h5")
        return scores

    monkeypatch.setattr("mrirecon.workflows.score.score_pairs", changed)
    with pytest.raises(DataChangedError, match=r"target val0\.h5: changed after it was checked"):
        score(ScoreConfig(output=str(tmp_path / "scores")), str(folder / "reconstructions" / "val"), str(data / "val"))
    assert not (tmp_path / "scores").exists()


@pytest.mark.slow  # two processes that import torch
def test_two_processes_stop_together_and_say_it_once(own, data, tmp_path):
    """The program itself; the second process reads the file that a third party cuts off at the first validation."""
    output = tmp_path / "run"
    words = f"train --data {data} --channels 4 --pools 2 --batch-size 1 --max-steps 4000 --val-every 4 --logger none"
    command = [sys.executable, "-m", "mrirecon", *words.split(), "--device", "cpu", "--devices", "2", "-o", str(output)]
    process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (output / "checkpoints" / "last.ckpt").is_file():
        assert process.poll() is None, process.communicate()
    Short(data / "train" / "train3.h5")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert len(said.splitlines()) == 1
    assert "train/train3.h5: changed after it was checked" in said
    assert "is kept: go on with mrirecon train --resume" in said
    step = saved(open_run(output))["last"]["global_step"]
    assert f"the checkpoint of step {step} is kept" in said
