"""`--lr find`: a range test before the training that does not change the training."""

import csv
import math

import numpy as np
import pytest
import torch

from mrirecon import configfile
from mrirecon.cli import main
from mrirecon.config import ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.training import ReconModule
from mrirecon.training.recipe.lr_finder import HIGH, LOW, N_STEPS, lr_of_step, running_mean, suggestion
from mrirecon.workflows.train import train


def rows(path):
    with path.open() as handle:
        return list(csv.DictReader(handle))


def test_rates_grow_by_one_factor_from_low_to_high():
    rates = [lr_of_step(k) for k in range(N_STEPS)]
    np.testing.assert_allclose(rates, np.geomspace(LOW, HIGH, N_STEPS))


def test_running_mean_is_the_corrected_exponential_one():
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]
    for n, got in enumerate(running_mean(losses), 1):
        weights = np.array([0.9 ** (n - 1 - i) for i in range(n)])
        assert got == pytest.approx(np.average(losses[:n], weights=weights))


def test_the_suggestion_is_a_tenth_of_the_least():
    assert suggestion([1e-3, 1e-2, 1e-1, 1.0], [2.0, 1.0, 0.5, math.nan]) == pytest.approx(1e-2)
    with pytest.raises(WorkFailedError, match="did not fall at any learning rate"):
        suggestion([1e-3, 1e-2], [1.0, 2.0])


@pytest.mark.parametrize(("norm", "method"), [("batch", "sgd"), ("none", "sgd"), ("instance", "muon")])
def test_it_finds_a_rate_trains_with_it_and_changes_nothing_else(quick, tmp_path, norm, method):
    """A run with the rate found equals one that was given it by hand, bit for bit."""
    model = ModelConfig(channels=4, pools=2, norm=norm, dropout=0.2)
    found = train(quick("found", model=model, optimizer=OptimizerConfig(method, "find"), max_steps=4))
    lr = configfile.load(TrainConfig, found.config).optimizer.lr
    given = train(quick("given", model=model, optimizer=OptimizerConfig(method, lr), max_steps=4))
    first, second = (torch.load(run.checkpoint("last"), weights_only=True)["state_dict"] for run in (found, given))
    assert all(torch.equal(first[name], second[name]) for name in first)
    test = rows(found.lr_find)
    assert float(test[0]["lr"]) == LOW
    best = min((r for r in test if math.isfinite(float(r["smoothed"]))), key=lambda r: float(r["smoothed"]))
    assert lr == pytest.approx(float(best["lr"]) / 10, rel=0.05)
    assert (found.figures / "lr-find.png").read_bytes().startswith(b"\x89PNG")


def test_the_found_rate_learns(quick):
    run = train(quick(optimizer=OptimizerConfig("adam", "find"), model=ModelConfig(channels=8, pools=2), max_steps=40))
    losses = [float(r["train_loss"]) for r in rows(run.curves) if r["train_loss"]]
    assert losses[-1] < 0.8 * losses[0]


def test_it_is_a_word_of_the_command_line(small_data, tmp_path, capsys):
    words = [
        "train",
        "--data",
        str(small_data),
        "--lr",
        "find",
        "--channels",
        "4",
        "--pools",
        "2",
        "--max-steps",
        "2",
        "--device",
        "cpu",
        "--accumulate",
        "2",
        "--output",
        str(tmp_path / "run"),
    ]
    assert main(words) == 0
    assert "a tenth of the rate with the least loss" in capsys.readouterr().err


def test_nothing_is_left_where_no_rate_is_found(quick, monkeypatch, tmp_path):
    def worse(self, sample, prediction=None):
        worse.loss += 1.0
        return sum(p.sum() for p in self.parameters()) * 0 + worse.loss

    worse.loss = 0.0
    monkeypatch.setattr(ReconModule, "sample_loss", worse)
    with pytest.raises(WorkFailedError, match="give one by hand"):
        train(quick(optimizer=OptimizerConfig("sgd", "find")))
    assert not list(tmp_path.iterdir())


def test_an_old_run_stays_until_a_rate_is_found(quick, monkeypatch):
    """`--overwrite` replaces what is there with something, not with nothing."""
    run = train(quick(max_steps=2))
    before = run.weights.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mrirecon.workflows.train.range_test", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(quick(max_steps=2, overwrite=True, optimizer=OptimizerConfig("sgd", "find")))
    assert run.weights.read_bytes() == before
    assert run.checkpoint("best").is_file()


def test_a_loss_that_may_be_negative_is_not_taken_for_diverged(quick):
    """Poisson's negative log likelihood passes zero on its way down."""
    run = train(quick(loss="torch.nn.PoissonNLLLoss", optimizer=OptimizerConfig("adam", "find"), max_steps=2))
    test = rows(run.lr_find)
    assert min(float(r["smoothed"]) for r in test) < 0
    falling = [float(r["smoothed"]) for r in test]
    assert falling.index(min(falling)) < len(falling) - 1 or len(test) == N_STEPS


def test_a_module_needs_a_number(quick):
    with pytest.raises(InputError, match=r"optimizer\.lr is find"):
        ReconModule(torch.nn.Conv2d(1, 1, 1), OptimizerConfig("sgd", "find")).configure_optimizers()
