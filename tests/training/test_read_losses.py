"""Losses that are read together, as on a GPU and between processes, give the run that reads each at once."""

import csv
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mrirecon import ranks
from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from mrirecon.data.dataset import SliceDataset
from mrirecon.errors import DivergedError, Stopped
from mrirecon.training.module import READ_EVERY, ReconModule
from mrirecon.workflows.train import train


@pytest.fixture(scope="module")
def config(tmp_path_factory, volume_writer):
    root = tmp_path_factory.mktemp("losses")
    for split in ("train", "val"):
        (root / split).mkdir()
        volume_writer(root / split / f"{split}.h5", n_slices=5, n_coils=2, matrix=(16, 16))
    return TrainConfig(
        data=DataConfig(path=str(root)),
        model=ModelConfig(channels=2, pools=1),
        optimizer=OptimizerConfig("sgd", 1e-3),
        schedule=ScheduleConfig("constant"),
        batch_size=2,
        max_steps=27,
        val_every=24,
        checkpoint_every=7,
        precision="fp32",
        threads=1,
        device="cpu",
    )


def read_together(monkeypatch):
    monkeypatch.setattr(ReconModule, "_read_every", lambda self: READ_EVERY)


def rows(run):
    with run.curves.open() as handle:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "slices_per_s")} for row in csv.DictReader(handle)
        ]


def state(path: Path):
    """The checkpoint without the times in it."""
    saved = torch.load(path, weights_only=True)
    saved["callbacks"]["Curves"].pop("seconds")
    return saved


def flat(value, path=""):
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, part in items for name, leaf in flat(part, f"{path}/{key}").items()}
    return {path: value.tolist() if isinstance(value, torch.Tensor) else value}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_curves_and_checkpoints_are_those_of_reading_each_batch(config, tmp_path, monkeypatch, accumulate):
    """Bit for bit, with smaller last batches, checkpoints between readings, and windows that end between epochs."""
    config = replace(config, accumulate=accumulate)
    at_once = train(replace(config, output=str(tmp_path / "at_once")))
    read_together(monkeypatch)
    together = train(replace(config, output=str(tmp_path / "together")))
    assert rows(together) == rows(at_once)
    assert len([row for row in rows(together) if row["train_loss"]]) == 3  # steps 10, 20, 27
    for name in ("last", "best"):
        assert flat(state(together.checkpoint(name))) == flat(state(at_once.checkpoint(name)))


def test_a_loss_is_read_with_the_next_nine_and_before_what_saves(config, tmp_path, monkeypatch):
    """Batches of each reading: to the checkpoint of step 7, to the row of 10, checkpoint of 14, row of 20, ..."""
    original, read = ranks.sum_of, []

    def counted(values):
        if len(values) % 3 == 0:  # those of a stop are five
            read.append(len(values) // 3)
        return original(values)

    read_together(monkeypatch)
    monkeypatch.setattr(ranks, "sum_of", counted)
    train(replace(config, output=str(tmp_path / "run")))
    assert read == [7, 3, 4, 6, 1, 3, 3]  # at 7, 10, 14, 20, 21, 24 (validation), 27 (end)
    read.clear()
    train(replace(config, output=str(tmp_path / "rare"), checkpoint_every=0, accumulate=3))
    assert max(read) == READ_EVERY
    assert sum(read) == 3 * config.max_steps


@pytest.mark.parametrize(("bad", "noticed"), [(12, 14), (15, 20), (0, 7), (26, 27)])
def test_a_bad_loss_is_noticed_before_it_is_saved(config, tmp_path, monkeypatch, bad, noticed):
    """The error names its step; the last checkpoint is of a step before it, and no later step is trained."""
    original, began = ReconModule.sample_loss, []

    def loss(self, sample, prediction=None):
        value = original(self, sample, prediction)
        if self.training:
            began.append(self.global_step)
        return value * torch.nan if self.training and self.global_step == bad else value

    monkeypatch.setattr(ReconModule, "sample_loss", loss)
    read_together(monkeypatch)
    run = tmp_path / "run"
    with pytest.raises(DivergedError, match=f"diverged at step {bad}: loss nan") as caught:
        train(replace(config, output=str(run)))
    assert caught.value.step == bad
    assert began[-1] + 1 == noticed
    kept = [torch.load(path, weights_only=True) for path in (run / "checkpoints").glob("last*.ckpt")]
    assert all(
        state["global_step"] <= bad and torch.isfinite(next(iter(state["state_dict"].values()))).all() for state in kept
    )
    assert len(kept) == (bad >= 7)


@pytest.mark.parametrize(("waits", "stopped"), [(False, 13), (True, 20)])
def test_several_gpus_ask_for_a_stop_every_tenth_step(config, tmp_path, monkeypatch, waits, stopped):
    """A signal during step 13 stops the run there, or at the next step where all are asked; then it can go on."""
    original = ReconModule.sample_loss

    def loss(self, sample, prediction=None):
        if self.training and self.global_step == 12:
            signal.raise_signal(signal.SIGUSR1)
        return original(self, sample, prediction)

    monkeypatch.setattr(ReconModule, "sample_loss", loss)
    monkeypatch.setattr(ranks, "talk_waits_for_gpu", lambda: waits)
    with pytest.raises(Stopped):
        train(replace(config, checkpoint_every=0, output=str(tmp_path / "run")))
    (last,) = (tmp_path / "run" / "checkpoints").glob("last*.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == stopped


def test_how_long_a_training_waited_for_data_is_said(config, tmp_path, capsys, monkeypatch):
    """A data set that takes 10 ms for each slice, 17 in 10 steps at least: that, not above all the time."""
    original = SliceDataset.__getitem__

    def slow(self, index):
        time.sleep(0.01)
        return original(self, index)

    monkeypatch.setattr(SliceDataset, "__getitem__", slow)
    monkeypatch.setattr("mrirecon.progress.quiet", False)
    train(replace(config, max_steps=10, output=str(tmp_path / "run")))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("waited for data")]
    share, waited, trained = (
        float(word.strip("(")) for word in line.split() if word.strip("(").replace(".", "").isdigit()
    )
    assert 0.16 < waited <= trained
    assert share == pytest.approx(100 * waited / trained, abs=60 / trained)
