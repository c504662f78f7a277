"""A training that diverged says at which step, through a pickle too, and still counts as failed work."""

import pickle
from dataclasses import replace

import pytest
import torch

from mrirecon.cli.command import run_safely
from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from mrirecon.errors import DivergedError, WorkFailedError
from mrirecon.training.loop.validation import Validation
from mrirecon.training.module import ReconModule
from mrirecon.workflows.train import train


@pytest.fixture(scope="module")
def config(tmp_path_factory, volume_writer):
    root = tmp_path_factory.mktemp("diverged")
    for split in ("train", "val"):
        (root / split).mkdir()
        volume_writer(root / split / f"{split}.h5", n_slices=2, n_coils=2, matrix=(16, 16))
    return TrainConfig(
        data=DataConfig(path=str(root)),
        model=ModelConfig(channels=2, pools=1),
        optimizer=OptimizerConfig("sgd", 1e-3),
        schedule=ScheduleConfig("constant"),
        max_steps=6,
        val_every=3,
        precision="fp32",
        threads=1,
        device="cpu",
    )


def test_it_is_pickled_whole():
    copy = pickle.loads(pickle.dumps(DivergedError("training diverged", 17)))
    assert (str(copy), copy.step) == ("training diverged", 17)


def test_it_is_failed_work_and_exits_1(capsys):
    def work():
        raise DivergedError("training diverged at step 3", 3)

    assert issubclass(DivergedError, WorkFailedError)
    assert run_safely(work, debug=False) == 1
    assert capsys.readouterr().err == "mrirecon: training diverged at step 3\n"


@pytest.mark.parametrize("step", [0, 4])
def test_the_step_of_a_loss_that_is_no_number(config, tmp_path, monkeypatch, step):
    original = ReconModule.sample_loss

    def loss(self, sample, prediction=None):
        value = original(self, sample, prediction)
        return value * torch.nan if self.training and self.global_step == step else value

    monkeypatch.setattr(ReconModule, "sample_loss", loss)
    with pytest.raises(DivergedError, match=f"diverged at step {step}:") as caught:
        train(replace(config, output=str(tmp_path / "run")))
    assert caught.value.step == step


def test_the_step_of_a_validation_that_gives_no_number(config, tmp_path, monkeypatch):
    original = Validation.__call__
    monkeypatch.setattr(Validation, "__call__", lambda *a: original(*a) | {"val_ssim": float("nan")})
    with pytest.raises(DivergedError, match="SSIM nan") as caught:
        train(replace(config, output=str(tmp_path / "run")))
    assert caught.value.step == 3


def test_the_step_of_weights_that_are_no_numbers(config, tmp_path, monkeypatch):
    original = Validation.__call__

    def spoil(self, trainer, module, stop):
        scores = original(self, trainer, module, stop)
        with torch.no_grad():
            next(module.parameters()).fill_(torch.inf)
        return scores

    monkeypatch.setattr(Validation, "__call__", spoil)
    with pytest.raises(DivergedError, match="weights are not finite") as caught:
        train(replace(config, output=str(tmp_path / "run")))
    assert caught.value.step == 3
