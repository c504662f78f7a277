"""`best`, early stopping and the schedule plateau by any score of a validation."""

import csv
import math

import pytest
import torch

from mrirecon.config import AverageConfig, ScheduleConfig
from mrirecon.errors import DivergedError, InputError
from mrirecon.evaluation.stats import better_is, goodness, monitors
from mrirecon.tables.metrics import validation_metrics
from mrirecon.training.build import load_reconstructor
from mrirecon.training.loop.validation import Validation
from mrirecon.workflows.train import train

# one validation per step; each score is at its best at another one
SCORES = {
    "ssim": [0.5, 0.6, 0.7, 0.6, 0.5, 0.4],
    "ssim_object": [0.4, 0.5, 0.3, 0.2, 0.1, 0.6],
    "psnr": [20.0, 30.0, 21.0, 22.0, 23.0, 24.0],
    "nmse": [0.5, 0.4, 0.3, 0.2, 0.6, 0.7],
    "hfen": [0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "loss": [0.9, 0.8, 0.7, 0.6, 0.1, 0.5],
}
BEST = {"ssim": 3, "ssim_object": 6, "psnr": 2, "nmse": 4, "hfen": 1, "loss": 5}


@pytest.fixture
def scripted(monkeypatch):
    """Validations that give the scores of a table, whatever the network."""

    def script(**changes):
        table = SCORES | changes

        def call(self, trainer, module, stop):
            names = [*validation_metrics(module.monitor), "loss"]
            scores = {f"val_{name}": table[name][trainer.global_step - 1] for name in names}
            module.observe(scores)
            self.curves.validated(trainer, scores)
            return scores

        monkeypatch.setattr(Validation, "__call__", call)

    return script


def run_of(quick, **changes):
    return train(quick(max_steps=6, val_every=1, **changes))


def step_of(run, which="best"):
    return torch.load(run.checkpoint(which), weights_only=True)["global_step"]


def test_the_table_of_directions_has_what_validations_give():
    assert list(BEST) == monitors()
    for metric, values in SCORES.items():
        assert max(values, key=lambda v: goodness(metric, v)) == values[BEST[metric] - 1]
        assert all(goodness(metric, bad) == -math.inf for bad in (math.nan, math.inf, -math.inf))


@pytest.mark.parametrize("monitor", BEST)
def test_best_is_best_by_the_score_that_is_monitored(quick, scripted, monitor):
    scripted()
    run = run_of(quick, monitor=monitor)
    assert (step_of(run), step_of(run, "last")) == (BEST[monitor], 6)
    best = load_reconstructor(run).model.state_dict()
    from safetensors.torch import load_file

    assert all(torch.equal(value, best[name]) for name, value in load_file(run.weights).items())


@pytest.mark.parametrize(
    ("monitor", "end"), [("ssim", 5), ("psnr", 4), ("nmse", 6), ("loss", 6)], ids=["ssim", "psnr", "nmse", "loss"]
)
def test_training_stops_early_by_it(quick, scripted, monitor, end, capsys):
    scripted()
    run = run_of(quick, monitor=monitor, early_stop=2)
    assert step_of(run, "last") == end
    name = "loss" if monitor == "loss" else monitor.upper()
    said = f"ended at step {end} of 6: 2 validations without a better {name} than at step {BEST[monitor]}"
    assert (said in capsys.readouterr().err) == (monitor != "loss")


@pytest.mark.parametrize("monitor", BEST)
@pytest.mark.cells(2)
def test_plateau_lowers_the_rate_by_it(quick, scripted, monitor):
    scripted()
    run = run_of(quick, monitor=monitor, schedule=ScheduleConfig("plateau", factor=0.5, patience=0))
    state = torch.load(run.checkpoint("last"), weights_only=True)["lr_schedulers"][0]
    best, n_lowered = -math.inf, 0  # torch's ReduceLROnPlateau with threshold 0, by hand
    for value in SCORES[monitor]:
        is_better = goodness(monitor, value) > best
        best, n_lowered = (goodness(monitor, value), n_lowered) if is_better else (best, n_lowered + 1)
    assert state["scale"] == 0.5**n_lowered
    assert state["scale"] < 1


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("psnr", [20.0, math.inf, 21.0, math.nan, 20.0, 20.0], 3),
        ("nmse", [math.nan, 0.5, -math.inf, 0.4, math.inf, 0.6], 4),
        ("loss", [math.inf, math.nan, 0.3, 0.4, 0.5, 0.6], 3),
    ],
)
def test_a_score_that_is_not_finite_is_never_the_best(quick, scripted, monitor, values, best, capsys):
    scripted(**{monitor: values})
    run = run_of(quick, monitor=monitor, schedule=ScheduleConfig("plateau", factor=0.5, patience=9))
    assert step_of(run) == best
    assert "which is never the best" in capsys.readouterr().err
    state = torch.load(run.checkpoint("last"), weights_only=True)["lr_schedulers"][0]
    assert state["best"] == goodness(monitor, values[best - 1])


def test_without_any_finite_score_the_last_weights_are_those_of_the_run(quick, scripted, capsys):
    scripted(psnr=[math.inf] * 6)
    run = run_of(quick, monitor="psnr")
    assert not run.checkpoint("best").exists()
    assert run.weights.is_file()
    assert "no validation had a finite PSNR: there is no `best`" in capsys.readouterr().err


def test_an_ssim_that_is_not_finite_is_a_divergence_whatever_is_monitored(quick, scripted):
    scripted(ssim=[0.5, math.nan, 0.5, 0.5, 0.5, 0.5])
    with pytest.raises(DivergedError, match="gives SSIM nan"):
        run_of(quick, monitor="loss")


def test_the_first_average_is_better_than_all_before_it(quick, scripted):
    scripted(psnr=[50.0, 50.0, 50.0, math.nan, 20.0, 19.0])
    assert step_of(run_of(quick, monitor="psnr", average=AverageConfig("swa", start=0.5, bn_batches=1))) == 5


@pytest.mark.parametrize("monitor", ["psnr", "loss", "nmse", "ssim"])
@pytest.mark.cells(2)
def test_the_scores_of_a_real_validation_are_what_is_compared(quick, monitor):
    """By the columns of curves.csv."""
    run = run_of(quick, monitor=monitor)
    with run.curves.open() as handle:
        column = {int(row["step"]): float(row[f"val_{monitor}"]) for row in csv.DictReader(handle) if row["val_ssim"]}
    assert step_of(run) == (max if better_is(monitor) == "higher" else min)(column, key=column.__getitem__)


def test_an_unknown_score_is_refused_early(quick, tmp_path):
    with pytest.raises(InputError, match="unknown monitor 'psn'; did you mean 'psnr'"):
        train(quick(monitor="psn"))
    assert not (tmp_path / "run").exists()
