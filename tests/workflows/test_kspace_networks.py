"""Networks that see k-space through every command: trained, stopped and resumed, evaluated, exported, refused."""

from dataclasses import replace

import fastmri.models
import pytest
import torch
from test_resume import assert_same_run, stopped_and_resumed

from mrirecon.cli import main
from mrirecon.config import AverageConfig, DataConfig, ExportConfig, ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.configfile import load
from mrirecon.models import NORMS
from mrirecon.tables.models import MODELS
from mrirecon.training.build import load_reconstructor
from mrirecon.training.checkpoints.weights_files import load_portable
from mrirecon.workflows.export.export_run import export, find_images, network_inputs
from mrirecon.workflows.train import train

NAMES = [name for name, entry in MODELS.items() if "kspace" in entry.inputs]


def small(name, **changes):
    keys = {"channels": 4, "pools": 1, "cascades": 2, "sens_channels": 4, "dropout": 0.2, **changes}
    return ModelConfig(name, **{key: value for key, value in keys.items() if key in MODELS[name].keys})


@pytest.fixture(scope="module")
def single(tmp_path_factory, volume_writer):
    """A single-coil data set."""
    root = tmp_path_factory.mktemp("single")
    for split, n in (("train", 2), ("val", 1)):
        (root / split).mkdir()
        for i in range(n):
            volume_writer(root / split / f"{split}{i}.h5", n_coils=1, matrix=(32, 32), seed=10 * n + i)
    return root


def call(*words):
    return main([*map(str, words), "--quiet"])


@pytest.mark.parametrize(
    "changes",
    [
        {"model": small("varnet", norm="batch", checkpointing=True), "optimizer": OptimizerConfig("muon", 1e-2)},
        {"model": small("varnet", norm="group"), "average": AverageConfig("ema", decay=0.7), "accumulate": 2},
        {"model": small("varnet", norm="instance", affine=True), "precision": "bf16-mixed"},
        {"model": small("unet_dc", norm="batch", residual=True), "average": AverageConfig("swa", start=0.2)},
    ],
    ids=["muon-batch-checkpointing", "ema-group", "bf16-instance", "unet_dc-swa"],
)
def test_stopped_and_resumed_equals_uninterrupted(quick, monkeypatch, changes):
    whole = train(quick("whole", **changes))
    assert_same_run(whole, stopped_and_resumed(monkeypatch, quick("parts", **changes), 3))


@pytest.mark.parametrize("norm", NORMS)
def test_checkpointing_changes_no_bit_of_a_training(quick, norm):
    """BatchNorm, too, counts every batch once."""
    models = [small("varnet", norm=norm, checkpointing=on) for on in (False, True)]
    runs = [train(quick(f"run{i}", model=model, max_steps=4)) for i, model in enumerate(models)]
    states = [torch.load(run.checkpoint("last"), weights_only=True)["state_dict"] for run in runs]
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_is_used_like_any_network(quick, tmp_path, capsys, name):
    run = train(quick(model=small(name, dropout=0.0), max_steps=40, val_every=20))
    assert f"network     {name} of kspace" in capsys.readouterr().err
    losses = [float(row[3]) for row in (x.split(",") for x in run.curves.read_text().splitlines()[1:]) if row[3]]
    assert losses[-1] < 0.9 * losses[0]
    data = quick().data.path
    assert call("evaluate", run.path, "--data", data, "--split", "test", "--output", tmp_path / "t") == 0
    assert call("reconstruct", run.path, f"{data}/test", "-o", tmp_path / "images") == 0
    assert call("export", run.path, "--format", "onnx") == 2
    assert f"--format onnx cannot hold a network {name}, which computes in complex numbers" in capsys.readouterr().err
    assert not run.export.exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_there", [True, False])
def test_an_export_computes_what_the_run_does(quick, single, name, is_there):
    """Compared on slices of the data, and on made-up ones where they are gone."""
    run = train(quick(model=small(name), max_steps=2, val_every=1))
    if not is_there:
        run.config.write_text(run.config.read_text().replace(quick().data.path, "/nowhere"))
    export(ExportConfig(), str(run.path))
    network, module = load_portable(run.export / "model.safetensors"), load_reconstructor(run)
    images = find_images(load(TrainConfig, run.config), quick().data.path, None, network.smallest_size)
    for batch in images.batches:
        with torch.no_grad():
            torch.testing.assert_close(
                network(*network_inputs(batch, network.inputs)), module(batch), rtol=0, atol=1e-6
            )
    assert (
        "input `kspace`: complex64 (batch, coils, rows, columns), 0 where not sampled"
        in (run.export / "README.md").read_text()
    )


def test_a_single_coil_network_and_its_refusals(quick, single, small_data, tmp_path, capsys):
    data = DataConfig(path=str(single))
    words = ["train", "--data", single, "--model", "varnet", "--channels", "4", "--max-steps", "2"]
    assert call(*words, "--output", tmp_path / "no") == 2
    assert "all training data have a single coil" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    run = train(quick("one", model=small("varnet", sens_channels=0), data=data, max_steps=4))
    assert call("evaluate", run.path, "--data", single, "--split", "val", "--output", tmp_path / "a") == 0
    capsys.readouterr()
    several = ["--data", small_data, "--split", "val"]
    assert call("evaluate", run.path, *several, "--output", tmp_path / "b") == 2
    said = capsys.readouterr().err
    assert "a varnet without sensitivity network (model.sens_channels 0) reconstructs a single coil" in said
    assert "these data have 2" in said
    assert not (tmp_path / "b").exists()
    run = train(quick("several", model=small("varnet"), max_steps=4))
    assert call("evaluate", run.path, "--data", single, "--split", "val", "--output", tmp_path / "c") == 0
    run = train(quick("dc", model=small("unet_dc"), data=data, max_steps=4))
    assert call("evaluate", run.path, *several, "--output", tmp_path / "d") == 0


def test_fastmris_weights_are_evaluated_and_trained_on(quick, small_data, tmp_path, capsys):
    theirs = fastmri.models.VarNet(2, 4, 1, 4, 1)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    keys = ["--model", "varnet", "--channels", "4", "--pools", "1", "--cascades", "2", "--sens-channels", "4"]
    evaluated = ["--data", small_data, "--split", "val", "--output", tmp_path / "a"]
    assert call("evaluate", tmp_path / "theirs.pt", *keys, *evaluated) == 0
    assert call("evaluate", tmp_path / "theirs.pt", *keys[:-4], *evaluated[:-1], tmp_path / "b") == 2
    assert "add --cascades 2 --sens-channels 4" in capsys.readouterr().err
    model = small("varnet", dropout=0.0)
    run = train(replace(quick(model=model, max_steps=1, val_every=1), weights=str(tmp_path / "theirs.pt")))
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    for name, value in theirs.state_dict().items():
        assert (state[f"model.{name}"] - value).abs().max() < 0.02
