"""A training whose network is compiled: as good as one whose network is not."""

import csv
from dataclasses import replace
from functools import partial

import pytest
import torch

from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, SimulateConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.training.checkpoints.read import load_checkpoint
from mrirecon.workflows.simulate import simulate_dataset
from mrirecon.workflows.train import train


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Four volumes of 32 x 32."""
    scan = {"matrix": (32, 32), "coils": 1, "slices": 2, "train": 3, "val": 1, "test": 0}
    return simulate_dataset(SimulateConfig(output=str(tmp_path_factory.mktemp("heads") / "data"), **scan))


def config(data, output, **others):
    model = ModelConfig(channels=4, pools=2, norm=others.pop("norm", "batch"))
    return TrainConfig(
        data=DataConfig(path=str(data)),
        model=model,
        optimizer=OptimizerConfig("sgd", lr=1e-3),  # Muon makes rounding errors larger
        max_steps=6,
        val_every=3,
        precision="fp32",
        device="cpu",
        output=str(output),
        **others,
    )


def losses(run):
    with run.curves.open() as lines:
        return [float(row["val_loss"]) for row in csv.DictReader(lines) if row["val_loss"]]


def weights(run):
    return load_checkpoint(run.checkpoint("last"))["state_dict"]


def test_compiling_changes_neither_weights_nor_statistics_before_the_first_step(
    simulated, tmp_path, monkeypatch, capsys
):
    """With a compiler that generates no code, the steps are those of a network that is not compiled."""
    plain = train(config(simulated, tmp_path / "plain"))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    capsys.readouterr()
    compiled = train(config(simulated, tmp_path / "compiled", compile=True))
    assert "compiled    in " in capsys.readouterr().err
    assert weights(plain).keys() == weights(compiled).keys()
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(compiled)[name], value, rtol=1e-4, atol=1e-6)


def test_a_network_that_cannot_be_compiled_is_a_clear_error(simulated, tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    with pytest.raises(InputError, match="cannot be compiled here .*leave out --compile"):
        train(config(simulated, tmp_path / "run", compile=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_compiler_of_torch_gives_the_same_training(simulated, tmp_path):
    """About a minute of compiling."""
    made = config(simulated, tmp_path / "plain", norm="instance")
    plain = train(made)
    compiled = train(replace(made, compile=True, output=str(tmp_path / "compiled")))
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-3)
