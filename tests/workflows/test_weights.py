"""Trainings that begin with given weights, and files of weights that are scored and used as they are."""

import json
import shutil
import signal
from dataclasses import replace
from hashlib import sha256

import h5py
import numpy as np
import pytest
import torch
from fastmri.data.subsample import RandomMaskFunc
from fastmri.data.transforms import UnetDataTransform
from fastmri.models import Unet
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from skimage.metrics import structural_similarity

from mrirecon import configfile
from mrirecon.cli import main
from mrirecon.config import (
    AverageConfig,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    ReconstructConfig,
    TrainConfig,
)
from mrirecon.errors import InputError, Stopped
from mrirecon.evaluation.results import read_results
from mrirecon.runs import open_run
from mrirecon.training.build import build_model, load_reconstructor
from mrirecon.training.checkpoints.read import hash_file
from mrirecon.training.checkpoints.weights_files import load_portable, save_portable
from mrirecon.training.loop.validate_and_keep import StepControl
from mrirecon.training.module import ReconModule
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.reconstruct import reconstruct
from mrirecon.workflows.resume import _is_begun, repeatable, resume_training
from mrirecon.workflows.setup.training_work import TrainingWork, check_setting
from mrirecon.workflows.train import train


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A state dict as fastMRI publishes it, of 8 channels, and their network with it."""
    torch.manual_seed(5)
    network = Unet(1, 1, chans=8, num_pool_layers=2).eval()
    path = tmp_path_factory.mktemp("published") / "knee_mc_state_dict.pt"
    torch.save(network.state_dict(), path)
    return path, network


def tensors(run, which):
    return torch.load(run.checkpoint(which), weights_only=True)["state_dict"]


def begun_with(config):
    return {f"model.{name}": value for name, value in TrainingWork(config).model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def by_fastmri(file, network):
    """Scores of fastMRI's network behind fastMRI's transform; SSIM of scikit-image."""
    transform = UnetDataTransform("multicoil", RandomMaskFunc([0.08], [4]), use_seed=True)
    with h5py.File(file) as opened:
        kspace, target, attrs = opened["kspace"][()], opened["reconstruction_rss"][()], dict(opened.attrs)
    images = []
    for i, slice_kspace in enumerate(kspace):
        sample = transform(slice_kspace, None, target[i], {"padding_left": 0, **attrs}, file.name, i)
        with torch.no_grad():
            normalised = network(sample.image[None, None])[0, 0]
        images.append((normalised * sample.std + sample.mean).numpy())
    error, peak = np.stack(images).astype(np.float64) - target, target.max()
    ssim = [structural_similarity(t, x, data_range=peak) for t, x in zip(target, np.stack(images), strict=True)]
    energy = (target.astype(np.float64) ** 2).sum()
    return np.mean(ssim), 10 * np.log10(peak**2 / (error**2).mean()), (error**2).sum() / energy


@pytest.mark.parametrize("form", ["state dict", "lightning", "safetensors that says so"])
def test_a_published_file_is_scored_as_fastmri_scores_its_network(published, small_data, tmp_path, monkeypatch, form):
    path, network = published
    monkeypatch.chdir(tmp_path)
    model = ModelConfig(channels=8, pools=2)
    if form == "lightning":
        path = tmp_path / "epoch=3.ckpt"
        state = {f"unet.{name}": value for name, value in network.state_dict().items()}
        torch.save({"state_dict": state, "pytorch-lightning_version": "1.9.0"}, path)
    elif form != "state dict":
        path = tmp_path / "model.safetensors"
        save_portable(network, model, path)  # and no flags
        model = ModelConfig()
    config = EvaluateConfig(data=DataConfig(path=str(small_data), mask="random"), model=model, device="cpu")
    (folder,) = evaluate(config, str(path))
    assert folder.parent.parent.resolve() == tmp_path / "runs" / path.stem
    for row in read_results(folder / "volumes.csv"):
        expected = by_fastmri(small_data / row.volume, network)
        assert (row.ssim, row.psnr, row.nmse) == pytest.approx(expected, rel=1e-4)
        assert (row.reconstructor, row.checkpoint) == (path.stem, "given")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["weights"]["sha256"] == sha256(path.read_bytes()).hexdigest()
    assert summary["weights"]["entries"] == 14


def test_the_command_line_takes_a_file_and_its_network(published, small_data, tmp_path, monkeypatch, capsys):
    path, _ = published
    monkeypatch.chdir(tmp_path)
    words = ["--model", "unet", "--channels", "8", "--pools", "2"]
    assert main(["evaluate", str(path), *words, "--data", str(small_data)]) == 0
    said = capsys.readouterr().err
    assert "(state dict): all 14 entries match" in said
    assert "norm instance, norm_position between, residual False: as the call says" in said
    assert main(["reconstruct", str(path), str(small_data / "test"), "-o", "out", *words, "--quiet"]) == 0
    assert len(list((tmp_path / "out").rglob("*.h5"))) == 2
    capsys.readouterr()
    assert main(["evaluate", str(path), "--data", str(small_data), "--overwrite", "--quiet"]) == 2
    assert capsys.readouterr().err.endswith("add --channels 8 --pools 2\n")
    assert main(["evaluate", "zero-filled", "--channels", "8", "--data", str(small_data)]) == 2
    assert "model.channels describes a file of weights; zero-filled is none" in capsys.readouterr().err
    assert main(["evaluate", "absent.pt", "--data", str(small_data)]) == 2
    assert "Or give a run folder or a file of weights" in capsys.readouterr().err


def test_what_a_file_cannot_do_is_said(published, small_data, tmp_path, monkeypatch):
    path, _ = published
    monkeypatch.chdir(tmp_path)
    data, model = DataConfig(path=str(small_data)), ModelConfig(channels=8, pools=2)
    with pytest.raises(InputError, match="--bn-stats recalibrated needs the run that trained"):
        evaluate(EvaluateConfig(data=data, model=model, bn_stats="recalibrated"), str(path))
    own = tmp_path / "runs" / path.stem  # a run that happens to be called so
    own.mkdir(parents=True)
    configfile.save(TrainConfig(), own / "config.yaml")
    with pytest.raises(InputError, match=r"is a run; its folder is not for .*: give --output"):
        evaluate(EvaluateConfig(data=data, model=model), str(path))
    save_portable(build_model(model), model, tmp_path / "own.safetensors")
    with pytest.raises(InputError, match="model.channels is 16, but own.safetensors says .* with 8; leave it out"):
        evaluate(EvaluateConfig(data=data, model=ModelConfig(channels=16)), "own.safetensors")


def test_a_file_gives_the_images_of_the_run_that_it_is_of(quick, small_data, tmp_path):
    model = ModelConfig(channels=4, pools=2)
    run = train(quick(model=model, max_steps=4))
    test, folders = str(small_data / "test"), []
    for i, word in enumerate([run.path, run.weights, run.checkpoint("best")]):
        folders.append(tmp_path / f"images{i}")
        reconstruct(ReconstructConfig(output=str(folders[-1])), str(word), [test])  # its own config.yaml is beside it
    for name in ("test0.h5", "test1.h5"):
        with h5py.File(folders[0] / "test" / name if (folders[0] / "test").is_dir() else folders[0] / name) as first:
            expected, sha = first["reconstruction"][()], first.attrs["weights_sha256"]
        for folder in folders[1:]:
            with h5py.File(next(folder.rglob(name))) as other:
                assert np.array_equal(other["reconstruction"][()], expected)
                assert other.attrs["weights_sha256"] == sha
    tensors_alone = load_file(str(run.weights))
    lonely = shutil.copy(run.weights, tmp_path / "lonely.safetensors")  # its header says which network it is of
    reconstruct(ReconstructConfig(output=str(tmp_path / "lonely")), str(lonely), [test])
    with h5py.File(next((tmp_path / "lonely").rglob(name))) as other:
        assert np.array_equal(other["reconstruction"][()], expected)
    save_file(tensors_alone, str(lonely))
    with pytest.raises(InputError, match="add --channels 4 --pools 2"):
        reconstruct(ReconstructConfig(output=str(tmp_path / "no")), str(lonely), [test])


def test_a_checkpoint_in_a_run_is_that_run_with_that_checkpoint(quick, small_data, tmp_path, capsys):
    run = train(quick(max_steps=6, val_every=2))
    assert main(["evaluate", str(run.checkpoint("last")), "--output", str(tmp_path / "a"), "--quiet"]) == 0
    words = ["evaluate", str(run.path), "--checkpoint", "last", "--output", str(tmp_path / "b"), "--quiet"]
    assert main(words) == 0
    ours, theirs = (read_results(tmp_path / name / "volumes.csv") for name in "ab")
    assert [replace(row, seconds=0) for row in ours] == [replace(row, seconds=0) for row in theirs]
    assert ours[0].checkpoint == "last"


def test_a_run_begins_with_the_best_of_another_and_says_so(quick, monkeypatch, capsys):
    plain = ModelConfig(channels=4, pools=2)
    with monkeypatch.context() as patch:
        patch.setattr(StepControl, "_is_better", lambda self, _found, _module: self.best_step == 0)
        first = train(quick("first", model=plain, max_steps=2, val_every=1))
    capsys.readouterr()
    config = quick("second", model=plain, weights=str(first.path), max_steps=3)
    assert equal(begun_with(config), tensors(first, "best"))
    assert not equal(tensors(first, "best"), tensors(first, "last"))
    assert equal(begun_with(replace(config, weights=str(first.checkpoint("last")))), tensors(first, "last"))
    second = train(config)
    said = capsys.readouterr().err
    assert "best.ckpt (best of a run): all 14 entries match, prefix 'model.' removed" in said
    facts = json.loads(second.provenance.read_text())["weights"]
    assert facts["sha256"] == hash_file(first.checkpoint("best")).read_text().split()[0]
    assert (facts["source"], facts["entries"], facts["prefix"]) == (str(first.path), 14, "model.")
    assert configfile.load(TrainConfig, second.config).weights == str(first.path)


@pytest.mark.parametrize("kind", ["ema", "swa", "schedulefree_adamw"])
@pytest.mark.cells(2)
def test_a_run_with_averages_gives_its_averages(quick, kind):
    changes = {"average": AverageConfig(kind, start=0.2, decay=0.9)}
    if "free" in kind:
        changes = {"optimizer": OptimizerConfig(kind, 1e-2)}
    first = train(quick("first", max_steps=6, val_every=3, **changes))
    state = torch.load(first.checkpoint("best"), weights_only=True)
    assert not equal(state["state_dict"], state["training_weights"])
    assert equal(begun_with(quick("second", weights=str(first.path))), state["state_dict"])


def test_its_configuration_repeats_it_until_the_weights_are_gone(quick, tmp_path, monkeypatch):
    first = train(quick("first", max_steps=4))
    monkeypatch.chdir(tmp_path)
    second = train(quick("second", weights="first", max_steps=3))  # a relative path
    monkeypatch.chdir("/")
    again = train(replace(configfile.load(TrainConfig, second.config), output=str(tmp_path / "again")))
    assert again.weights.read_bytes() == second.weights.read_bytes()
    assert again.weights.read_bytes() != first.weights.read_bytes()
    shutil.rmtree(first.path)
    with pytest.raises(InputError, match=r"no weights at .*first; .* where they are gone, begin with random ones"):
        train(replace(configfile.load(TrainConfig, second.config), output=str(tmp_path / "third")))
    assert not (tmp_path / "third").exists()


def stop_at_batch(patch, number):
    original = ReconModule.on_train_batch_start

    def arriving(self, batch, batch_idx):
        if batch_idx == number:
            signal.raise_signal(signal.SIGTERM)
        original(self, batch, batch_idx)

    patch.setattr(ReconModule, "on_train_batch_start", arriving)


def test_a_stopped_run_goes_on_without_the_weights_that_it_began_with(quick, monkeypatch, tmp_path):
    first = train(quick("first", max_steps=4))
    whole = train(quick("whole", weights=str(first.path)))
    config = quick("parts", weights=str(first.path))
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 5)
        with pytest.raises(Stopped):
            train(config)
    shutil.rmtree(first.path)
    parts = resume_training(config.output, TrainConfig())
    assert parts.weights.read_bytes() == whole.weights.read_bytes()


def test_a_run_of_an_earlier_version_goes_on(quick, monkeypatch):
    """Its settings lack the young keys, which then had their defaults; and its best score is one of SSIM."""
    whole = train(quick("whole"))
    config = quick("parts")
    with monkeypatch.context() as patch:
        stop_at_batch(patch, 5)
        with pytest.raises(Stopped):
            train(config)
    run = open_run(config.output)
    path = run.checkpoint("last")
    state = torch.load(path, weights_only=True)
    keeper = state["callbacks"]["Keeper"]
    for key in ("weights", "freeze", "monitor"):
        del keeper["settings"][key]
    keeper["best_ssim"] = keeper.pop("best")
    torch.save(state, path)
    hash_file(path).unlink()
    text = run.config.read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("weights:", "freeze:", "monitor:"))]
    run.config.write_text("\n".join([*lines, "monitor: nmse"]) + "\n")
    with pytest.raises(InputError, match="was edited: monitor is nmse, the run was trained with ssim"):
        resume_training(config.output, TrainConfig())
    run.config.write_text("\n".join(lines) + "\n")
    assert resume_training(config.output, TrainConfig()).weights.read_bytes() == whole.weights.read_bytes()


@pytest.mark.parametrize("length", [{"max_steps": 3}, {"max_steps": 0, "max_epochs": 1}])
def test_going_on_longer_is_what_the_refusal_of_resume_says(quick, tmp_path, capsys, length):
    run = train(quick(**length))
    assert main(["train", "--resume", str(run.path), "--max-steps", "9"]) == 2
    said = capsys.readouterr().err
    command = said[said.index("mrirecon train -c") :].split(";")[0].split()[1:]
    assert command[:5] == ["train", "-c", str(run.config), "--weights", str(run.path)]
    command[command.index("...")] = "9"
    assert main([*command, "--output", str(tmp_path / "more"), "--quiet"]) == 0
    more = open_run(tmp_path / "more")
    assert torch.load(more.checkpoint("last"), weights_only=True)["global_step"] == 9
    assert configfile.load(TrainConfig, more.config).weights == str(run.path)


def test_a_run_without_a_best_gives_its_weights_or_says_what_to_give(quick):
    run = train(quick("first", max_steps=3, checkpoints="end"))
    assert equal(begun_with(quick("second", weights=str(run.path))), tensors(run, "last"))
    run.weights.unlink()
    with pytest.raises(InputError, match=r"neither best.ckpt nor weights.safetensors; give .*checkpoints/last.ckpt"):
        begun_with(quick("second", weights=str(run.path)))
    with pytest.raises(InputError, match="is not a run folder"):
        begun_with(quick("second", weights=str(run.checkpoints)))


def test_another_network_and_a_changed_file_leave_nothing_behind(quick, tmp_path):
    first = train(quick("first", max_steps=3))
    with pytest.raises(InputError, match="norm batch \\(not group\\); add --norm batch$"):
        train(quick("second", weights=str(first.path), model=ModelConfig(channels=4, pools=2, norm="group")))
    state = torch.load(first.checkpoint("best"), weights_only=True)
    next(iter(state["state_dict"].values())).mul_(1.01)
    torch.save(state, first.checkpoint("best"))
    with pytest.raises(InputError, match="best.ckpt does not match its SHA-256"):
        train(quick("second", weights=str(first.path)))
    assert not (tmp_path / "second").exists()


def test_weights_are_named_in_the_card_without_a_path(quick, tmp_path):
    first = train(quick("first", max_steps=3))
    second = train(quick("second", weights=str(first.path), freeze=["down*"], max_steps=3))
    assert main(["export", str(second.path), "--quiet"]) == 0
    card = (second.export / "README.md").read_text()
    sha = hash_file(first.checkpoint("best")).read_text().split()[0]
    assert f"- began with given weights (best of a run), SHA-256 {sha}" in card
    assert "frozen: down*" in card
    assert str(tmp_path) not in card


def test_load_reconstructor_knows_the_step(quick):
    run = train(quick(max_steps=5, val_every=2))
    assert load_reconstructor(run, "last").trained_steps == 5


# ---- residual learning: trained anew, told by weights, or not told


def residuals(run):
    """What the run's configuration says, and the header of its weights, which other programs read."""
    return configfile.load(TrainConfig, run.config).model.residual, stored_residual(run.weights)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ModelConfig(channels=4, pools=1), True),
        (ModelConfig(channels=4, pools=1, residual=False), False),
        (ModelConfig("unet", "complex", channels=4, pools=1), True),
        (ModelConfig("normunet", channels=4, pools=1), True),
        (ModelConfig("normunet", "complex", channels=4, pools=1), True),
        (ModelConfig("unet_dc", channels=4, pools=1), True),
        (ModelConfig("varnet", channels=4, pools=1, cascades=1, sens_channels=2), False),  # which has no such key
    ],
    ids=lambda value: f"{value.name}-{value.input}-{value.residual}" if isinstance(value, ModelConfig) else None,
)
def test_a_training_decides_what_auto_is_and_stores_it(quick, model, expected):
    run = train(quick(model=model, max_steps=1, val_every=1))
    assert residuals(run) == (expected, expected)
    assert main(["export", str(run.path), "--quiet"]) == 0
    assert stored_residual(run.export / "model.safetensors") is expected
    assert load_portable(run.export / "model.safetensors") is not None
    again = configfile.load(TrainConfig, run.config)  # of a network without the key, false is as good as nothing
    assert TrainingWork(again).config.model == again.model


def stored_residual(path):
    with safe_open(str(path), "pt") as file:
        return json.loads(file.metadata()["model"])["residual"]


def test_fastmris_weights_are_of_a_network_that_predicts_the_image(published, quick, tmp_path):
    path, network = published
    config = quick(model=ModelConfig(channels=8, pools=2), weights=str(path), max_steps=1, val_every=1)
    work = TrainingWork(config)
    assert work.config.model.residual is False
    x = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(work.model.eval()(x), network(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(build_like(network, config.model)(x), network(x), rtol=1e-4, atol=1e-5)
    assert residuals(train(config)) == (False, False)
    told = TrainingWork(replace(config, model=ModelConfig(channels=8, pools=2, residual=True)))  # by the caller
    with torch.no_grad():
        torch.testing.assert_close(told.model.eval()(x), network(x) + x, rtol=1e-4, atol=1e-5)


def build_like(network, config):
    """The network of a configuration that leaves it at auto, with the weights of fastMRI's."""
    ours = build_model(config).eval()
    ours.load_state_dict(network.state_dict())
    return ours


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("form", ["run", "checkpoint", "weights", "export", "lonely"])
@pytest.mark.cells(6)
def test_our_weights_say_it(quick, tmp_path, residual, form):
    model = ModelConfig(channels=4, pools=1)
    first = train(quick("first", model=replace(model, residual=residual), max_steps=1, val_every=1))
    if form == "export":
        assert main(["export", str(first.path), "--quiet"]) == 0
    source = {
        "run": first.path,
        "checkpoint": first.checkpoint("last"),
        "weights": first.weights,
        "export": first.export / "model.safetensors",
        "lonely": shutil.copy(first.weights, tmp_path / "some.safetensors"),
    }[form]
    config = quick("second", model=model, weights=str(source))
    assert TrainingWork(config).config.model.residual is residual
    check_setting(config)
    against = replace(config, model=replace(model, residual=not residual))
    for refusing in (TrainingWork, check_setting):
        with pytest.raises(InputError, match=rf"residual {residual} \(not {not residual}\)"):
            refusing(against)


def test_a_contradiction_is_refused_when_a_file_is_scored(small_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for residual in (True, False):
        model = ModelConfig(channels=4, pools=1, residual=residual)
        save_portable(build_model(model), model, tmp_path / "own.safetensors")
        config = EvaluateConfig(data=DataConfig(path=str(small_data)), model=ModelConfig(residual=not residual))
        with pytest.raises(InputError, match=f"model.residual is {not residual}, but .* with {residual}; leave it out"):
            evaluate(config, "own.safetensors")


def test_a_job_that_starts_again_knows_its_run_by_what_auto_became(quick):
    config = quick(model=ModelConfig(channels=4, pools=1), max_steps=2, val_every=1)
    assert config.model.residual == "auto"
    run = train(config)
    assert _is_begun(run, repeatable(config))
    other = replace(config, model=replace(config.model, residual=False))
    assert not _is_begun(run, repeatable(other))
