"""curves.csv survives stops and says what was measured: closed forms of the norms of gradients and steps.

For whole runs the norms are the difference of two sets of saved weights: plain gradient descent at a constant rate
moves the weights by rate x gradient, so runs of 9 and of 10 steps give the gradient of the 10th step without asking the
optimizer: as accumulated, unscaled, in whichever precision.
"""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from mrirecon.training.loop.curves import Journal, StepTrace, columns
from mrirecon.workflows.train import train

LR = 0.1


@pytest.fixture(scope="module")
def config(tmp_path_factory, volume_writer):
    root = tmp_path_factory.mktemp("traces")
    for split in ("train", "val"):
        (root / split).mkdir()
        volume_writer(root / split / f"{split}.h5", n_slices=5, n_coils=2, matrix=(16, 16))
    return TrainConfig(
        data=DataConfig(path=str(root)),
        model=ModelConfig(channels=4, pools=1, norm="batch", affine=True),
        optimizer=OptimizerConfig("sgd", LR),
        schedule=ScheduleConfig("constant"),
        val_every=100,
        precision="fp32",
        threads=1,
        device="cpu",
        output=str(root / "run"),
        overwrite=True,
    )


def trained(config, n_steps):
    """Weights `(n,)` in double and the rows of the curve after `n_steps`."""
    run = train(replace(config, max_steps=n_steps))
    saved = torch.load(run.checkpoint("last"), weights_only=True)
    state = saved.get("training_weights", saved["state_dict"])
    weights = [v.double().flatten().numpy() for k, v in state.items() if "running" not in k and "num_" not in k]
    with run.curves.open() as handle:
        return np.concatenate(weights), list(csv.DictReader(handle))


def last_step(config):
    """Weights before, change of the weights, and the written row of step 10."""
    before, _ = trained(config, 9)
    after, rows = trained(config, 10)
    (row,) = [row for row in rows if row["train_loss"]]
    assert row["step"] == "10"
    return before, after - before, row


@pytest.mark.parametrize(
    "changes",
    [{}, {"precision": "bf16-mixed"}, {"accumulate": 3}, {"optimizer": OptimizerConfig("gd", LR)}],
    ids=["plain", "bf16", "accumulate", "gd"],
)
def test_gradient_and_step_of_gradient_descent(config, changes):
    before, change, row = last_step(replace(config, **changes))
    assert float(row["grad_norm"]) == pytest.approx(np.linalg.norm(change) / LR, rel=1e-4)
    assert float(row["update_ratio"]) == pytest.approx(np.linalg.norm(change) / np.linalg.norm(before), rel=1e-4)


def test_the_gradient_is_that_before_clipping_and_the_step_that_after_it(config):
    clip = 0.01
    before, change, row = last_step(replace(config, clip=clip))
    assert np.linalg.norm(change) == pytest.approx(LR * clip, rel=1e-3)
    assert float(row["grad_norm"]) > 2 * clip
    assert float(row["update_ratio"]) == pytest.approx(LR * clip / np.linalg.norm(before), rel=1e-3)


@pytest.mark.parametrize("name", ["adam", "muon", "schedulefree_sgd"])
def test_the_step_of_other_methods(config, name):
    before, change, row = last_step(replace(config, optimizer=OptimizerConfig(name, 1e-2)))
    assert float(row["update_ratio"]) == pytest.approx(np.linalg.norm(change) / np.linalg.norm(before), rel=1e-4)


def test_only_training_rows_have_them_and_the_last_step_has_one(config):
    _, rows = trained(replace(config, val_every=5), 12)
    filled = {int(row["step"]) for row in rows if row["grad_norm"] and row["update_ratio"]}
    assert filled == {10, 12}
    assert {int(row["step"]) for row in rows if not row["grad_norm"]} == {5, 10, 12}


def test_all_parameters_are_one_vector():
    rng = np.random.default_rng(0)
    weights, gradients = [[rng.standard_normal(shape) for shape in ((3, 4), (5,))] for _ in range(2)]
    parameters = [nn.Parameter(torch.tensor(w)) for w in weights]
    resting = nn.Parameter(torch.tensor([7.0], dtype=torch.double))  # has no gradient
    optimizer = torch.optim.SGD([{"params": parameters[:1]}, {"params": [parameters[1], resting]}], lr=0.5)
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = torch.tensor(gradient)
    trace = StepTrace()
    trace.begin(optimizer)
    optimizer.step()
    norm = np.linalg.norm(np.concatenate([g.ravel() for g in gradients]))
    of_weights = np.linalg.norm(np.concatenate([*(w.ravel() for w in weights), [7.0]]))
    assert trace.end() == pytest.approx({"grad_norm": norm, "update_ratio": 0.5 * norm / of_weights}, rel=1e-12)
    assert trace.end() == {}


def test_a_curve_written_without_them_is_read_and_gone_on_with(tmp_path):
    old = [name for name in columns() if name not in ("grad_norm", "update_ratio")]
    journal = Journal(tmp_path / "curves.csv")
    with journal.path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, old)
        writer.writeheader()
        writer.writerows({"step": step, "train_loss": 1 / step, "seconds": step} for step in (10, 20, 30))
    assert [row["train_loss"] for row in journal.rows()] == [str(1 / step) for step in (10, 20, 30)]
    journal.begin(20)
    journal.add(step=30, train_loss=0.5, grad_norm=2.0, update_ratio=0.1, seconds=30.0)
    assert [row["grad_norm"] for row in journal.rows()] == ["", "", "2"]
    assert [row["train_loss"] for row in journal.rows()] == ["0.1", "0.05", "0.5"]


def filled(path):
    journal = Journal(path)
    journal.begin(0)
    for step in (10, 20, 30):
        journal.add(step=step, train_loss=1 / step, seconds=float(step))
        journal.add(step=step, val_ssim=0.5, seconds=float(step))
    return journal


def steps(journal):
    return [int(row["step"]) for row in journal.rows()]


def test_rows_after_the_resumed_step_are_dropped(tmp_path):
    journal = filled(tmp_path / "curves.csv")
    journal.begin(20)
    assert steps(journal) == [10, 10, 20, 20]
    journal.begin(0)
    assert steps(journal) == []


def test_a_row_cut_short_by_a_crash_is_left_out(tmp_path):
    journal = filled(tmp_path / "curves.csv")
    with journal.path.open("a") as handle:
        handle.write("40,0.1")
    assert steps(journal) == [10, 10, 20, 20, 30, 30]
    journal.begin(40)
    with journal.path.open(newline="") as handle:
        assert next(iter(csv.reader(handle))) == list(columns())


def test_numbers_keep_nine_digits(tmp_path):
    journal = Journal(tmp_path / "curves.csv")
    journal.begin(0)
    journal.add(step=1, train_loss=0.123456789012, seconds=1.0)
    assert float(journal.rows()[0]["train_loss"]) == 0.123456789
