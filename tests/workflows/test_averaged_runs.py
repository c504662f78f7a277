"""Averaged and Schedule-Free weights: what every checkpoint holds, what is validated and evaluated."""

import csv
import json
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.optim.swa_utils import update_bn

from mrirecon.config import AverageConfig, DataConfig, EvaluateConfig, ModelConfig, OptimizerConfig, ScheduleConfig
from mrirecon.data import ReconDataModule, normalize
from mrirecon.errors import InputError, Stopped
from mrirecon.models import UNet
from mrirecon.training import ReconModule
from mrirecon.training.build import build_model
from mrirecon.training.loop.validate_and_keep import StepControl
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.train import train

N_STEPS = 11
KINDS = {
    "ema": {"average": AverageConfig("ema", decay=0.5, bn_batches=3)},
    "swa": {"average": AverageConfig("swa", start=0.5, bn_batches=3)},
    "schedulefree_sgd": {"optimizer": OptimizerConfig("schedulefree_sgd", 0.1), "average": AverageConfig(bn_batches=3)},
    "schedulefree_adamw": {"optimizer": OptimizerConfig("schedulefree_adamw", 1e-2)},
}


def expected(kind, trained, optimizer_state, names):
    """The average from the recorded weights after each step, or from the optimizer's own iterate z."""
    if kind == "swa":
        tail = trained[round(0.5 * N_STEPS) :]
        return {n: torch.stack([t[n] for t in tail]).mean(0) for n in names} if tail else trained[-1]
    if kind == "ema":
        average = dict(trained[0])
        for n_seen, weights in enumerate(trained[1:], 1):
            decay = min(0.5, (1 + n_seen) / (10 + n_seen))
            average = {n: decay * average[n] + (1 - decay) * weights[n] for n in names}
        return average
    order = [n for n in names if trained[0][n].ndim > 1] + [n for n in names if trained[0][n].ndim == 1]
    z = {n: optimizer_state["state"][i]["z"] for i, n in enumerate(order)}
    return {n: (trained[-1][n] - (1 - 0.9) * z[n]) / 0.9 for n in names}  # y = (1 - beta) z + beta x


@pytest.fixture
def recorded(monkeypatch):
    """The weights after each step, and a copy of each checkpoint when it was written."""
    steps, saved = [], []
    step, save = ReconModule.optimizer_step, StepControl._save

    def stepping(self, *args, **kwargs):
        step(self, *args, **kwargs)
        steps.append({f"model.{n}": p.detach().clone() for n, p in self.model.named_parameters()})

    def saving(self, trainer, module, which="last"):
        save(self, trainer, module, which)
        saved.append(torch.load(self.run.checkpoint(which), weights_only=True))

    monkeypatch.setattr(ReconModule, "optimizer_step", stepping)
    monkeypatch.setattr(StepControl, "_save", saving)
    return steps, saved


def configuration(quick, kind, **changes):
    model = ModelConfig(channels=4, pools=2, norm="batch", residual=False)
    return quick(max_steps=N_STEPS, val_every=4, checkpoint_every=3, model=model, **{**KINDS[kind], **changes})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.cells(2)
def test_every_checkpoint_holds_the_average_with_statistics_of_its_own(quick, recorded, kind):
    config = configuration(quick, kind)
    run = train(config)
    steps, saved = recorded
    assert [c["global_step"] for c in saved] == [3, 4, 6, 8, 9, 11]  # save points and validations
    names = list(steps[0])
    for checkpoint in saved:
        trained = steps[: checkpoint["global_step"]]
        want = expected(kind, trained, checkpoint["optimizer_states"][0], names)
        for name in names:
            torch.testing.assert_close(checkpoint["state_dict"][name], want[name], rtol=1e-4, atol=1e-6)
        if kind == "swa" and checkpoint["global_step"] <= round(0.5 * N_STEPS):
            assert "training_weights" not in checkpoint
            continue
        assert all(torch.equal(checkpoint["training_weights"][n], trained[-1][n]) for n in names)
        assert_statistics_are_torchs(config, checkpoint["state_dict"])
    best = torch.load(run.checkpoint("best"), weights_only=True)
    assert any(torch.equal(best["state_dict"][names[0]], c["state_dict"][names[0]]) for c in saved)


def assert_statistics_are_torchs(config, state):
    """torch's `update_bn` over the first training batches gives the same running statistics."""
    model = build_model(config.model)
    model.load_state_dict({n.removeprefix("model."): v for n, v in state.items()})
    batches = ReconDataModule(config.data, config.batch_size).recalibration_batches(config.average.bn_batches)
    update_bn([normalize(b.image, b.mean, b.std).unsqueeze(1) for b in batches], model)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state[f"model.{name}"], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["ema", "schedulefree_adamw"])
def test_a_stop_saves_the_average(quick, recorded, monkeypatch, kind):
    def stop(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == 5:
            self.stop._remember(15, None)
        batch_end(self, trainer, module, outputs, batch, batch_idx)

    batch_end = StepControl.on_train_batch_end
    monkeypatch.setattr(StepControl, "on_train_batch_end", stop)
    with pytest.raises(Stopped, match="at step 6"):
        train(configuration(quick, kind))
    steps, saved = recorded
    names = list(steps[0])
    want = expected(kind, steps, saved[-1]["optimizer_states"][0], names)
    for name in names:
        torch.testing.assert_close(saved[-1]["state_dict"][name], want[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_validated_is_what_is_evaluated_later(quick, small_data, tmp_path, kind):
    """The SSIM that training printed for its last step is that of the saved checkpoint."""
    run = train(configuration(quick, kind))
    with run.curves.open() as handle:
        last = [row for row in csv.DictReader(handle) if row["val_ssim"]][-1]
    config = EvaluateConfig(
        data=DataConfig(path=str(small_data)),
        checkpoint="last",
        output=str(tmp_path / "out"),
        batch_size=2,
        threads=1,
        device="cpu",
    )
    (out,) = evaluate(config, str(run.path))
    scores = json.loads((out / "summary.json").read_text())["overall"]
    for metric in ("ssim", "psnr", "nmse"):
        assert scores[metric]["mean"] == pytest.approx(float(last[f"val_{metric}"]), rel=1e-6)


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and logging
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_trainers_checkpoints_hold_the_average_too(small_data, tmp_path, kind):
    """With Lightning's own ModelCheckpoint, on every occasion it has: best by validation, end of epoch, by hand."""
    torch.manual_seed(0)
    settings = {"optimizer": OptimizerConfig("adam", 1e-2), **KINDS[kind]}
    module = ReconModule(UNet(channels=4, pools=2, norm="batch"), n_steps=24, **settings)
    best = ModelCheckpoint(tmp_path / "best", monitor="val_ssim", mode="max", save_last=True, save_top_k=-1)
    end = ModelCheckpoint(tmp_path / "end", save_on_train_epoch_end=True, filename="end")
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        callbacks=[best, end],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(tmp_path),
    )
    trainer.fit(module, ReconDataModule(DataConfig(path=str(small_data)), batch_size=2))
    trainer.save_checkpoint(tmp_path / "hand.ckpt")
    averages = module.evaluated.average.values(list(module.model.parameters()))
    for path in (tmp_path / "best" / "last.ckpt", tmp_path / "end" / "end.ckpt", tmp_path / "hand.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        for (name, trained), average in zip(module.model.named_parameters(), averages, strict=True):
            assert torch.equal(checkpoint["state_dict"][f"model.{name}"], average)
            assert torch.equal(checkpoint["training_weights"][f"model.{name}"], trained)
    assert module.training


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and logging
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_loaded_for_anything_but_training_gives_the_average(quick, small_data, kind):
    """By Lightning's own ways: `load_from_checkpoint` and `Trainer.validate(ckpt_path=...)`."""
    config = configuration(quick, kind)
    run = train(config)
    path = run.checkpoint("last")
    saved = torch.load(path, weights_only=True)
    loaded = ReconModule.load_from_checkpoint(path, model=build_model(config.model), weights_only=True)
    fresh = ReconModule(build_model(config.model), **KINDS[kind], n_steps=N_STEPS)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=str(run.path))
    data = ReconDataModule(DataConfig(path=str(small_data)), batch_size=2)
    (scores,) = trainer.validate(fresh, data, ckpt_path=str(path), verbose=False)
    for module in (loaded, fresh):
        assert all(torch.equal(saved["state_dict"][n].cpu(), v.cpu()) for n, v in module.state_dict().items())
    with run.curves.open() as handle:
        last = [row for row in csv.DictReader(handle) if row["val_ssim"]][-1]
    assert scores["val_ssim"] == pytest.approx(float(last["val_ssim"]), rel=1e-5)


def test_an_error_while_recalibrating_leaves_the_trained_weights(small_data):
    def broken(n):
        yield from ReconDataModule(DataConfig(path=str(small_data))).recalibration_batches(1)
        raise KeyboardInterrupt

    module = ReconModule(UNet(channels=4, pools=2, norm="batch"), average=AverageConfig("ema"), n_steps=3)
    module.recalibration_batches = broken
    module.evaluated.update()
    torch.nn.init.ones_(module.model.conv.layers[0].weight)
    before = {n: v.clone() for n, v in module.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), module.evaluated_weights():
        pass
    assert all(torch.equal(before[n], v) for n, v in module.state_dict().items())
    assert module.training
    assert module.model.conv.layers[1].momentum == 0.1


def test_batchnorm_without_batches_is_refused(tmp_path):
    module = ReconModule(UNet(channels=4, pools=2, norm="batch"), average=AverageConfig("ema"), n_steps=2)
    module.evaluated.update()
    with pytest.raises(InputError, match="need batches to recalibrate"), module.evaluated_weights():
        pass


def test_two_averages_at_once_are_refused(quick):
    config = quick(optimizer=OptimizerConfig("schedulefree_sgd", 0.1), average=AverageConfig("ema"))
    with pytest.raises(InputError, match="averages by itself"):
        train(config)


def test_early_stop_ends_the_run_and_keeps_the_best(quick, capsys):
    """A rate of almost 0 changes nothing, so no validation is better than the first."""
    config = quick(
        max_steps=40,
        val_every=2,
        early_stop=3,
        optimizer=OptimizerConfig("sgd", 1e-12),
        schedule=ScheduleConfig("constant"),
        model=ModelConfig(channels=4, pools=2),
    )
    run = train(config)
    last, best = (torch.load(run.checkpoint(which), weights_only=True)["global_step"] for which in ("last", "best"))
    assert best in (2, 4, 6)
    assert last == best + 6
    assert f"ended at step {last} of 40: 3 validations without a better SSIM" in capsys.readouterr().err
    assert run.weights.is_file()
    from mrirecon.workflows.resume import resume_training

    resume_training(str(run.path), config)
    assert torch.load(run.checkpoint("last"), weights_only=True)["global_step"] == last
    assert train(replace(config, early_stop=0, max_steps=4, output=f"{config.output}-b")).weights.is_file()


def test_early_stop_and_best_wait_for_the_average(quick):
    """Nothing improves, yet the run does not end before an average exists, and `best` holds one."""
    config = quick(
        max_steps=12,
        val_every=1,
        early_stop=2,
        optimizer=OptimizerConfig("sgd", 1e-12),
        average=AverageConfig("swa", start=0.5),
        model=ModelConfig(channels=4, pools=2),
    )
    run = train(config)
    for which in ("best", "last"):
        checkpoint = torch.load(run.checkpoint(which), weights_only=True)
        assert checkpoint["global_step"] > 6
        assert checkpoint["average"]["n"] > 0
        assert "training_weights" in checkpoint
