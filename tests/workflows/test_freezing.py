"""What is frozen does not change, in no bit, and is no part of the optimizer."""

import json
import signal
from dataclasses import replace

import pytest
import torch

from mrirecon.config import AverageConfig, ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.errors import InputError, Stopped
from mrirecon.training.build import build_model
from mrirecon.training.module import ReconModule
from mrirecon.training.recipe.freezing import freeze
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.setup.training_work import TrainingWork
from mrirecon.workflows.train import train

BATCH = ModelConfig(channels=4, pools=2, norm="batch", affine=True)


def test_patterns_are_of_names_and_the_rest_stays_trainable():
    network = build_model(BATCH)
    frozen = freeze(network, ["down*", "up_conv.1.1.?ias"])
    kept = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert kept == {n for n, _ in network.named_parameters() if n.startswith("down") or n == "up_conv.1.1.bias"}
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    assert frozen.n_parameters == sum(sizes[name] for name in kept)
    assert frozen.n_parameters + frozen.n_trainable == sum(sizes.values())
    assert len(frozen.norms) == 4
    assert all(name.startswith("down") for name in frozen.norms)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["dwn*"], r"--freeze 'dwn\*' matches no parameter; there are down_sample_layers.0.\*, .*, conv.\*, "),
        (["down*", "unet.*"], r"--freeze 'unet.\*' matches no parameter"),
        (["conv.layer*", "*running_men"], r"'\*running_men' matches no parameter"),
        (["*"], r"--freeze \* leaves none of 7,[0-9]+ parameters to train"),
        (["down*", "conv*", "up*"], "leaves none of"),
    ],
)
def test_a_pattern_of_nothing_or_of_everything_is_refused(patterns, message):
    with pytest.raises(InputError, match=message) as caught:
        freeze(build_model(BATCH), patterns)
    assert "\n" not in str(caught.value)


def test_nothing_frozen_changes_nothing():
    network = build_model(BATCH)
    frozen = freeze(network, [])
    assert (frozen.n_parameters, frozen.norms) == (0, ())
    assert all(p.requires_grad for p in network.parameters())


def state_of(run, which="last"):
    state = torch.load(run.checkpoint(which), weights_only=True)["state_dict"]
    return {name.removeprefix("model."): value for name, value in state.items()}


def assert_only_frozen_stayed(before, after, is_frozen):
    for name, value in before.items():
        assert torch.equal(value, after[name]) == is_frozen(name), name


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": OptimizerConfig("adamw", 1e-2, weight_decay=0.5)},
        {"optimizer": OptimizerConfig("sgd", 1e-2, weight_decay=0.5), "clip": 0.1},
        {"optimizer": OptimizerConfig("muon", 1e-2)},
        {"optimizer": OptimizerConfig("schedulefree_adamw", 1e-2, weight_decay=0.5)},
        {"average": AverageConfig("ema", decay=0.5, bn_batches=2)},
        {"average": AverageConfig("swa", start=0.2, bn_batches=2), "accumulate": 2},
    ],
    ids=["adamw", "sgd", "muon", "schedulefree", "ema", "swa"],
)
@pytest.mark.cells(4)
def test_what_is_frozen_stays_bit_for_bit(quick, changes):
    config = quick(model=BATCH, freeze=["down*", "conv.*"], max_steps=4, val_every=2, **changes)
    before = TrainingWork(config).model.state_dict()
    after = state_of(train(config))
    assert_only_frozen_stayed(before, after, lambda name: name.startswith(("down", "conv.")))


def test_batchnorms_statistics_move_unless_they_are_named_too(quick):
    config = quick(model=BATCH, freeze=["*.weight"], max_steps=3)
    before, after = TrainingWork(config).model.state_dict(), state_of(train(config))
    assert_only_frozen_stayed(before, after, lambda name: name.endswith(".weight"))
    config = quick("second", model=BATCH, freeze=["*running_mean"], max_steps=3)
    before, after = TrainingWork(config).model.state_dict(), state_of(train(config))
    assert_only_frozen_stayed(before, after, lambda name: "running" in name or "num_batches" in name)


def test_a_frozen_batchnorm_normalises_with_its_statistics():
    network = build_model(BATCH)
    module = ReconModule(network, freeze=["down_sample_layers.0*"])
    layers = {name: m for name, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    for _ in range(2):
        module.eval()
        module.train()  # as after each validation
        assert {name for name, layer in layers.items() if not layer.training} == set(module.frozen.norms)
    assert len(module.frozen.norms) == 2


def test_the_optimizer_does_not_hold_what_is_frozen(quick):
    work = TrainingWork(quick(model=BATCH, freeze=["down*"]))
    held = {p for group in work.module.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert held == {p for name, p in work.model.named_parameters() if not name.startswith("down")}
    assert work.summary.gradient_bytes == sum(p.nbytes for p in held)


def test_it_is_said_and_recorded(quick, capsys):
    run = train(quick(model=BATCH, freeze=["down*"], max_steps=2))
    work = TrainingWork(quick("other", model=BATCH, freeze=["down*"]))
    said = capsys.readouterr().err
    assert f"frozen      down*: {work.module.frozen.n_trainable:,} parameters stay trainable" in said
    assert "4 BatchNorms keep their statistics" in said
    assert "eval mode" not in said  # Lightning's advice
    assert json.loads(run.provenance.read_text())["frozen"] == work.module.frozen.facts()


@pytest.mark.parametrize("average", ["none", "ema"])
def test_a_stopped_run_goes_on_bit_for_bit(quick, monkeypatch, average):
    config = quick("whole", model=BATCH, freeze=["down*"], max_steps=5, val_every=2, average=AverageConfig(average))
    whole = train(config)
    original = ReconModule.on_train_batch_start

    def arriving(self, batch, batch_idx):
        if batch_idx == 2:
            signal.raise_signal(signal.SIGTERM)
        original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ReconModule, "on_train_batch_start", arriving)
        with pytest.raises(Stopped):
            train(replace(config, output=f"{config.output}-parts"))
    parts = resume_training(f"{config.output}-parts", TrainConfig())
    for which in ("last", "best"):
        ours, theirs = state_of(parts, which), state_of(whole, which)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
