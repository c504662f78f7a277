"""One entry in a table makes a thing available everywhere."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from mrirecon import configfile
from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.cli.train import TRAIN
from mrirecon.config import EvaluateConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from mrirecon.tables.losses import LOSSES, LossEntry
from mrirecon.tables.masks import MASKS, MaskEntry
from mrirecon.tables.norms import NORMS, NormEntry
from mrirecon.tables.optimizers import OPTIMIZERS, OptimizerEntry
from mrirecon.tables.schedules import SCHEDULES, ScheduleEntry
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.train import train


class Halve(nn.Module):
    def __init__(self, n_channels, affine, eps):
        super().__init__()

    def forward(self, x):
        return 0.5 * x


def first_half(shape, center_fraction, acceleration, generator):
    kept = np.zeros(shape, bool)
    kept[shape[0] // 4 : 3 * shape[0] // 4] = True
    return kept


@pytest.fixture
def toys(monkeypatch):
    """An entry in each table, made as a user would."""
    monkeypatch.setitem(NORMS, "toynorm", NormEntry("halves", Halve))
    space = {"lr": (1e-4, 1e-1), "weight_decay": (1e-7, 1e-3)}
    entry = OptimizerEntry("half SGD", "torch.optim:SGD", lr=0.03, options={"momentum": 0.5}, space=space)
    monkeypatch.setitem(OPTIMIZERS, "toyopt", entry)
    monkeypatch.setitem(SCHEDULES, "toyschedule", ScheduleEntry("half the rate", lambda _at, _config: 0.5))
    monkeypatch.setitem(LOSSES, "toyloss", LossEntry("cubes", lambda b: (b.prediction - b.target).abs().pow(3).mean()))
    monkeypatch.setitem(MASKS, "toymask", MaskEntry("half", first_half))


def test_one_entry_makes_a_thing_available_in_help_training_evaluation_and_studies(toys, quick, capsys):
    text = TRAIN.help()
    for name in ("toynorm", "toyopt", "toyschedule", "toyloss", "toymask"):
        assert name in text
    assert "toyopt 0.03" in text
    config = quick(
        model=ModelConfig(channels=4, pools=2, norm="toynorm"),
        optimizer=OptimizerConfig("toyopt"),
        schedule=ScheduleConfig("toyschedule"),
        loss="toyloss",
        max_steps=2,
        val_every=2,
    )
    config = replace(config, data=replace(config.data, mask="toymask"))
    run = train(config)
    said = capsys.readouterr().err
    assert "lr 0.03, recommended for toyopt" in said
    assert "masks       toymask, 4x" in said
    assert configfile.load(TrainConfig, run.config).optimizer.lr == 0.03
    with run.curves.open() as handle:
        assert {float(row["lr"]) for row in csv.DictReader(handle) if row["lr"]} == {0.015}
    (folder,) = evaluate(EvaluateConfig(data=config.data, output=str(run.path / "scored")), str(run.path))
    with (folder / "volumes.csv").open() as handle:
        scored = [(row["mask"], float(row["acceleration_true"])) for row in csv.DictReader(handle)]
    assert scored
    assert set(scored) == {("toymask", 2.0)}
    grid = make_grid(
        {
            "name": "toys",
            "factors": {"optimizer": ["toyopt", "adam"], "norm": ["toynorm", "group"]},
            "reference": {"optimizer": "adam", "norm": "group"},
            "base": {"schedule": {"name": "toyschedule"}, "loss": "toyloss", "data": {"mask": "toymask"}},
        }
    )
    assert grid.tuning.spaces["toyopt/toynorm"] == {"optimizer.lr": (1e-4, 1e-1)}
    assert grid.cell("toyopt/group").settings["optimizer.lr"] == 0.03
