"""One file and one entry of MODELS: a network that sees k-space is trained, evaluated, used and refused like any."""

import csv
from statistics import fmean

import h5py
import pytest
import torch
from safetensors.torch import load_file
from toy_network import UNROLLED

from mrirecon.cli import main
from mrirecon.config import DataConfig, ModelConfig
from mrirecon.data.loading.datamodule import ReconDataModule
from mrirecon.errors import InputError
from mrirecon.tables.models import MODELS
from mrirecon.training.build import build_model, read_design


@pytest.fixture(scope="module")
def data(tmp_path_factory, volume_writer):
    """Volumes of one image size, with other numbers of coils and another oversampling: no batch fits all k-space."""
    root = tmp_path_factory.mktemp("data")
    for split, n in (("train", 4), ("val", 2)):
        (root / split).mkdir()
        for i in range(n):
            made = {"n_coils": (2, 4, 1, 4)[i], "oversampling": (2, 2, 2, 3)[i]}
            volume_writer(root / split / f"{split}{i}.h5", matrix=(32, 32), seed=10 * n + i, **made)
    return root


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(MODELS, "unrolled", UNROLLED)


def call(*words):
    return main([*map(str, words), "--quiet"])


def train(data, output, *words):
    settings = ["--model", "unrolled", "--channels", "4", "--max-steps", "12", "--lr", "1e-2", "--precision", "fp32"]
    return call("train", "--data", data, "--coils", "both", *settings, "--batch-size", "3", "--output", output, *words)


def test_a_network_on_kspace_is_trained_evaluated_and_reconstructs(data, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(data, run) == 0
    with (run / "curves.csv").open() as handle:
        validated = [float(row["val_ssim"]) for row in csv.DictReader(handle) if row["val_ssim"]]
    weights = load_file(run / "weights.safetensors")
    assert weights["step"] != 1  # where it began
    assert call("evaluate", run, "--split", "val", "--output", tmp_path / "tables") == 0
    with (tmp_path / "tables" / "volumes.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 2
    assert fmean(float(row["ssim"]) for row in rows) == pytest.approx(max(validated), abs=1e-6)
    assert call("reconstruct", run, data / "val", "-o", tmp_path / "images") == 0
    with h5py.File(tmp_path / "images" / "val0.h5") as file:
        assert file["reconstruction"].shape == (3, 32, 32)
    capsys.readouterr()
    assert call("export", run) == 2
    assert "a network unrolled cannot be exported" in capsys.readouterr().err


def test_batches_hold_kspace_of_one_shape_and_every_slice(data):
    config = DataConfig(path=str(data), coils="both")
    module = ReconDataModule(config, batch_size=3, needs=("kspace", "mask", "image"))
    seen_slices, shapes = [], set()
    for batch in module.train_dataloader():
        assert batch.masked_kspace.shape[0] == batch.mask.shape[0] == len(batch.volume)
        shapes.add(tuple(batch.masked_kspace.shape[1:]))
        seen_slices += list(zip(batch.volume, batch.slice_idx.tolist(), strict=True))
    assert shapes == {(2, 64, 32), (4, 64, 32), (1, 64, 32), (4, 96, 32)}
    assert len(seen_slices) == len(set(seen_slices)) == 12
    assert ReconDataModule(config, batch_size=3).stream.batches_per_epoch == 4  # images alone are of one shape


def test_what_it_does_not_take_is_refused(data, tmp_path, capsys):
    assert train(data, tmp_path / "run", "--pools", "3") == 2
    assert "model.pools is 3, but unrolled has no such key, only channels; leave it out" in capsys.readouterr().err
    assert train(data, tmp_path / "run", "--model.input", "complex") == 2
    assert "unknown model input 'complex'. Known: kspace. That is what unrolled takes." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="images of 32 x 7 pixels are too small: unrolled needs 8 x 8"):
        read_design(ModelConfig("unrolled")).check_image_size((32, 7))
    assert read_design(ModelConfig("unrolled", "kspace")).seen is read_design(ModelConfig("unrolled")).seen
    torch.manual_seed(0)
    assert sum(p.numel() for p in build_model(ModelConfig("unrolled", channels=4)).parameters()) == 1 + 76 + 74
