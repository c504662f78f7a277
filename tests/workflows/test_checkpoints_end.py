"""`checkpoints: end`: one checkpoint, written when training ends, and a stopped run goes on as exactly as any other."""

from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from test_resume import assert_equal, checkpoint, curve_rows, stop_at_batch, stopped_and_resumed

from mrirecon.config import AverageConfig, ModelConfig, OptimizerConfig
from mrirecon.errors import InputError, Stopped
from mrirecon.runs import open_run
from mrirecon.training.build import load_reconstructor
from mrirecon.training.loop.validation import Validation
from mrirecon.training.module import ReconModule
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.train import train


def assert_same_last(a, b):
    first, second = checkpoint(a), checkpoint(b)
    for key in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "training_weights", "average"):
        assert_equal(first.get(key), second.get(key))
    assert curve_rows(a) == curve_rows(b)


@pytest.fixture
def saves(monkeypatch):
    """Steps at which a checkpoint was written."""
    steps, original = [], pl.Trainer.save_checkpoint

    def save(self, *args, **kwargs):
        steps.append(self.global_step)
        original(self, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", save)
    return steps


def test_it_leaves_last_alone_and_the_same_numbers(quick, saves):
    usual = train(quick("usual"))
    assert len(saves) > 1
    saves.clear()
    run = train(quick("end", checkpoints="end"))
    assert saves == [11]
    assert {path.name for path in run.checkpoints.iterdir()} == {"last.ckpt", "last.ckpt.sha256"}
    assert_same_last(usual, run)
    weights, last = load_file(run.weights), checkpoint(run)["state_dict"]
    assert {f"model.{name}" for name in weights} == set(last)
    assert all(torch.equal(value, last[f"model.{name}"]) for name, value in weights.items())


@pytest.mark.parametrize("number", [2, 3, 8, 9])  # 3: where a validation is due
@pytest.mark.parametrize(
    "changes",
    [{}, {"average": AverageConfig("ema", decay=0.7)}, {"optimizer": OptimizerConfig("schedulefree_adamw", 1e-2)}],
    ids=["plain", "ema", "schedulefree"],
)
@pytest.mark.cells(4)
def test_stopped_and_resumed_equals_uninterrupted(quick, monkeypatch, number, changes):
    whole = train(quick("whole", checkpoints="end", **changes))
    parts = stopped_and_resumed(monkeypatch, quick("parts", checkpoints="end", **changes), number)
    assert_same_last(whole, parts)


def test_a_kill_after_an_owed_validation_writes_no_row_twice(quick, monkeypatch):
    """The stop left the validation of step 4; it is done and saved before the resumed run is killed."""
    whole = train(quick("whole", checkpoints="end"))
    config = quick("killed", checkpoints="end")
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 3)
        with pytest.raises(Stopped):
            train(config)
    with monkeypatch.context() as patch:
        patch.setattr(ReconModule, "training_step", killed)
        with pytest.raises(KeyboardInterrupt):
            resume_training(config.output, config)
    assert_same_last(whole, resume_training(config.output, config))


def killed(*_args):
    raise KeyboardInterrupt


def test_a_signal_during_a_validation_saves_too(quick, monkeypatch):
    config = quick(checkpoints="end")
    original = Validation._score

    def score(self, module, stop):
        found = original(self, module, stop)
        stop._remember(15, None)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "_score", score)
        with pytest.raises(Stopped):
            train(config)
    assert checkpoint(open_run(config.output))["global_step"] == 4
    assert_same_last(train(quick("whole", checkpoints="end")), resume_training(config.output, config))


def test_checkpoint_every_saves_in_between(quick, saves):
    train(quick(checkpoints="end", checkpoint_every=2, val_every=3))
    assert saves == [2, 4, 6, 8, 10, 11]


def test_a_run_that_ends_early_is_saved_and_stays_ended(quick, saves):
    config = quick(checkpoints="end", early_stop=1, val_every=1, optimizer=OptimizerConfig("sgd", 1e-12))
    config = replace(config, model=ModelConfig(channels=4, pools=2), max_steps=9)
    run = train(config)
    (step,) = saves
    assert step == checkpoint(run)["global_step"] < 9
    resume_training(config.output, config)
    assert checkpoint(run)["global_step"] == step


def test_there_is_no_best_to_load(quick):
    run = train(quick(checkpoints="end", max_steps=1))
    load_reconstructor(run, "last")
    with pytest.raises(InputError, match=r"no best.ckpt.*--checkpoint last"):
        load_reconstructor(run, "best")


def test_another_word_is_refused(quick):
    config = quick(checkpoints="ends")
    with pytest.raises(InputError, match="unknown checkpoints 'ends'; did you mean 'end'.* Known: all, end"):
        train(config)
