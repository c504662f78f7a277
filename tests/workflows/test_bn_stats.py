"""A trained run is evaluated with running, batch or recalibrated BatchNorm statistics."""

import json

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from mrirecon import configfile
from mrirecon.config import DataConfig, EvaluateConfig, ModelConfig, TrainConfig
from mrirecon.data import SliceDataset, normalize, to_image
from mrirecon.errors import InputError
from mrirecon.evaluation import nmse, psnr, ssim
from mrirecon.evaluation.results import read_results
from mrirecon.reconstruct.network import set_bn_stats
from mrirecon.training.build import load_reconstructor
from mrirecon.training.recipe.batchnorm import recalibrate
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.train import train


@pytest.fixture(scope="module")
def run(small_data, tmp_path_factory):
    """A short training with BatchNorm."""
    config = TrainConfig(
        data=DataConfig(path=str(small_data), mask="random"),
        model=ModelConfig(channels=4, pools=2, norm="batch", dropout=0.2),
        max_steps=4,
        precision="fp32",
        device="cpu",
        output=str(tmp_path_factory.mktemp("runs") / "run"),
    )
    return train(config)


def settings(small_data, tmp_path, **changes):
    data = DataConfig(path=str(small_data), mask="random")
    return EvaluateConfig(**{"data": data, "output": str(tmp_path / "out"), "device": "cpu"} | changes)


def scores(folder):
    return {r.volume: (r.ssim, r.psnr, r.nmse) for r in read_results(folder / "volumes.csv")}


def test_a_run_equals_its_network_applied_by_hand(run, small_data, tmp_path):
    (out,) = evaluate(settings(small_data, tmp_path), str(run.path))
    module = load_reconstructor(run, "best")
    images = {}
    with torch.no_grad():
        for sample in DataLoader(SliceDataset(small_data / "val", transform=to_image), batch_size=1):
            images.setdefault(f"val/{sample.volume[0]}", []).append((sample.target[0], module(sample)[0]))
    for name, pairs in images.items():
        target, image = (torch.stack(x) for x in zip(*pairs, strict=True))
        span = float(target.max())
        expected = ssim(target, image, span), psnr(target, image, span), nmse(target, image)
        assert scores(out)[name] == pytest.approx(expected, rel=1e-6)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["checkpoint"], summary["bn_stats"], summary["reconstructor"]) == ("best", "running", "run")


def test_default_place_is_inside_the_run(run, small_data, tmp_path):
    (out,) = evaluate(settings(small_data, tmp_path, output="", checkpoint="last"), str(run.path))
    assert out == run.evaluation(small_data.name, "val", "random", "4x")
    assert {r.checkpoint for r in read_results(out / "volumes.csv")} == {"last"}


def test_recalibrated_is_deterministic_and_differs(run, small_data, tmp_path, capsys):
    made = {}
    for kind, again in (("running", ""), ("recalibrated", ""), ("recalibrated", "again"), ("batch", "")):
        torch.manual_seed(len(made))  # the global generator has no say
        output = str(tmp_path / f"{kind}{again}")
        (out,) = evaluate(settings(small_data, tmp_path, bn_stats=kind, output=output), str(run.path))
        made[kind + again] = scores(out)
    assert made["recalibrated"] == made["recalibratedagain"]
    assert made["running"] != made["recalibrated"] != made["batch"] != made["running"]
    assert "depend on the batch size" in capsys.readouterr().err


def test_recalibration_finds_its_data_where_it_is_now(run, small_data, tmp_path):
    trained = configfile.load(TrainConfig, run.config)
    moved = configfile.build(TrainConfig, {**configfile.flatten(trained), "data.path": str(tmp_path / "gone")})
    here, elsewhere = load_reconstructor(run), load_reconstructor(run)
    set_bn_stats(here, "recalibrated", trained)
    set_bn_stats(elsewhere, "recalibrated", moved, data=str(small_data))
    for name, value in here.state_dict().items():
        torch.testing.assert_close(elsewhere.state_dict()[name], value, rtol=0, atol=0)
    with pytest.raises(InputError, match="gone"):
        set_bn_stats(load_reconstructor(run), "recalibrated", moved)


def test_recalibration_equals_torchs_update_bn(run, small_data):
    """Dropout apart: there it is switched on, here off; so it is set to 0 for the comparison."""
    samples = list(DataLoader(SliceDataset(small_data / "train", transform=to_image), batch_size=1))
    ours, torchs = load_reconstructor(run), load_reconstructor(run)
    for layer in torchs.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    recalibrate(ours, [m for m in ours.modules() if isinstance(m, _BatchNorm)], samples)
    update_bn([normalize(s.image, s.mean, s.std).unsqueeze(1) for s in samples], torchs.model)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(torchs.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert not ours.training


def test_batch_statistics_are_those_of_the_batch():
    layer = nn.Sequential(nn.BatchNorm2d(3, affine=False))
    values = 5 + 2 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    layer.eval()
    assert not torch.allclose(layer(values).mean(), torch.zeros(()), atol=1)
    set_bn_stats(layer, "batch", TrainConfig())
    torch.testing.assert_close(layer(values).mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)


def test_networks_without_batchnorm_say_so(capsys):
    module = nn.Sequential(nn.InstanceNorm2d(3))
    set_bn_stats(module, "recalibrated", TrainConfig())
    assert "no BatchNorm" in capsys.readouterr().err
    with pytest.raises(InputError, match="unknown BatchNorm statistics 'runing'; did you mean 'running'"):
        set_bn_stats(module, "runing", TrainConfig())


def test_images_too_small_for_the_network_are_found_before_work(run, tmp_path, volume_writer):
    volume_writer(tmp_path / "data" / "val" / "v.h5", matrix=(7, 40))
    with pytest.raises(InputError, match="too small"):
        evaluate(settings(tmp_path / "data", tmp_path), str(run.path))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_is_refused(small_data, tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        evaluate(settings(small_data, tmp_path), str(small_data))


@pytest.mark.parametrize(("synchronised", "size"), [(True, 4), (False, 2)])
def test_recalibration_batches_are_those_that_were_normalised_together(small_data, synchronised, size):
    data = DataConfig(path=str(small_data), mask="random")
    trained = TrainConfig(data=data, batch_size=2, devices=2, sync_batchnorm=synchronised)
    sizes = []

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, sample):
            sizes.append(len(sample.image))
            return self.norm(sample.image[:, None])

    set_bn_stats(Network(), "recalibrated", trained)
    assert max(sizes) == size
    assert sum(sizes) == 12  # every training slice once
