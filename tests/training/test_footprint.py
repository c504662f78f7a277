"""The size of a network and of a training step, against closed forms, hand counts and measured memory."""

import copy
import csv
import json
import os
import platform
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.data.transforms import ImageSample
from mrirecon.models import UNet
from mrirecon.models.device import keep_freed_memory
from mrirecon.training import footprint
from mrirecon.training.footprint import PeakMemory, optimizer_bytes, summarize
from mrirecon.training.recipe.optimizers import OPTIMIZERS, make_optimizer
from mrirecon.workflows.setup import training_work
from mrirecon.workflows.train import train

MIB = 2**20
# tensors of the size of each parameter that the method's own formula keeps
STATES = {
    "gd": 0,
    "sgd": 0,
    "momentum": 1,
    "nesterov": 1,
    "rmsprop": 1,
    "adagrad": 1,
    "lion": 1,
    "adam": 2,
    "adamw": 2,
    "nadamw": 2,
    "lamb": 2,
    "amsgrad": 3,
    "madgrad": 3,
}


@pytest.mark.parametrize("name", STATES)
def test_bytes_of_the_state_in_closed_form(name):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(5, 7))
    n_bytes = 4 * (4 * 1 * 3 * 3 + 4 + 5 * 7 + 7)
    optimizer = make_optimizer(name, model, 1e-3)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert optimizer_bytes(optimizer) == STATES[name] * n_bytes


def test_nothing_is_kept_before_the_first_step():
    assert optimizer_bytes(torch.optim.Adam([nn.Parameter(torch.zeros(3))])) == 0


def held(mebibytes):
    """Touches every page of so much memory and lets it go."""
    return np.ones(mebibytes * MIB // 8)[-1]


def test_the_peak_holds_what_was_taken_inside_and_not_what_was_before():
    """Also where the process keeps freed memory, as every training on a CPU lets it."""
    if not keep_freed_memory():
        pytest.skip("only glibc is asked to give kept memory back")
    held(300)
    with PeakMemory() as resting:
        pass
    with PeakMemory() as peak:
        held(100)
    if peak.since_start:
        pytest.skip("this system does not let a process set its high-water mark back")
    assert 95 * MIB < peak.bytes - resting.bytes < 200 * MIB


def test_without_permission_it_is_the_peak_since_the_process_began(tmp_path, monkeypatch):
    monkeypatch.setattr(footprint, "_CLEAR", tmp_path / "absent" / "clear_refs")
    with PeakMemory() as first:
        held(50)
    with PeakMemory() as second:
        pass
    assert first.since_start
    assert second.bytes >= first.bytes > 50 * MIB


def test_the_peak_of_work_that_fails_is_known_too():
    peak = PeakMemory()
    with pytest.raises(ZeroDivisionError), peak:
        1 / 0  # noqa: B018
    assert peak.bytes > MIB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_peak_on_a_gpu_is_that_of_its_tensors():
    with PeakMemory("cuda") as peak:
        torch.ones(10 * MIB, device="cuda")
    assert peak.bytes >= 40 * MIB


def test_the_memory_of_the_machine(tmp_path, monkeypatch):
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = 1024 * int(meminfo["MemTotal"].split()[0])
    assert 0 < footprint.machine_memory() <= total
    for text, expected in (("max\n", total), ("1048576\n", 2**20), (f"{2**62}\n", total), ("", total)):
        (tmp_path / "memory.max").write_text(text)
        monkeypatch.setattr(footprint, "_CGROUPS", (tmp_path / "none", tmp_path / "memory.max"))
        assert footprint.machine_memory() == expected
    assert footprint.memory_of("cpu") == f"this machine has {total / 2**30:.1f} GiB"


ADAM = OptimizerConfig("adam")


def batch_of(n, height, width):
    image = torch.linspace(0, 1, n * height * width).view(n, height, width)
    ones = torch.ones(n)
    return ImageSample(
        image, image, image.mean((1, 2)), image.std((1, 2)), ones, ["a"] * n, ones, ones, ones, ["m"] * n
    )


def convolution_flop(channels, pools, height, width):
    """Of fastMRI's U-Net: two times (outputs x weights of one output), level by level."""
    total, before = 0, 1
    for level in range(pools + 1):
        n, pixels = channels * 2**level, (height >> level) * (width >> level)
        total += pixels * n * 9 * (before + n)  # two 3 x 3 convolutions down
        if level < pools:
            total += pixels * n * (2 * n)  # 2 x 2 transpose convolution: each output pixel has one source
            total += pixels * n * 9 * (2 * n + n)  # two 3 x 3 convolutions up
        before = n
    return 2 * (total + height * width * channels)  # and the last one, 1 x 1


@pytest.mark.parametrize(
    ("channels", "pools", "height", "width"), [(32, 4, 320, 320), (4, 2, 32, 48)], ids=["fastmri", "small"]
)
def test_operations_equal_the_count_of_all_convolutions(channels, pools, height, width):
    network = UNet(channels=channels, pools=pools)
    summary = summarize(network, batch_of(1, height, width), 2, ADAM)
    assert summary.flop_per_slice == convolution_flop(channels, pools, height, width)
    assert summary.parameters == sum(p.numel() for p in network.parameters())
    assert summary.image_shape == (height, width)


def test_the_default_network_has_the_known_size():
    """7,756,097: fastMRI's U-Net with 32 channels, as its paper and its code count it."""
    line = str(summarize(UNet(), batch_of(1, 320, 320), 2, ADAM))
    assert line.startswith("7,756,097 parameters, 37.6 GFLOP per 320 x 320 slice, about ")
    assert " for a training step of 2 slices (" in line


@pytest.mark.parametrize("batch_size", [1, 5])
def test_kept_activations_are_those_of_a_hand_count(batch_size):
    """Kept: the input of each convolution (the second one's is the ReLU's result too), and what scales the image."""
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    summary = summarize(network, batch_of(1, 16, 20), batch_size, ADAM)
    assert summary.activation_bytes == batch_size * ((1 + 8) * 16 * 20 * 4 + 4)
    assert summary.weight_bytes == summary.gradient_bytes == 4 * (8 * 9 + 8 + 8 * 9 + 1)


def test_weights_in_another_precision_count_once_not_for_each_slice():
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    precision = torch.autocast("cpu", dtype=torch.bfloat16)
    summary = summarize(network, batch_of(1, 16, 20), 5, ADAM, precision=precision)
    assert summary.activation_bytes == 5 * ((1 + 8) * 16 * 20 * 2 + 4) + 2 * (8 * 9 + 8 * 9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state_is_that_of_the_whole_network_after_a_step(name):
    network = UNet(channels=4, pools=2, norm="batch", affine=True)
    summary = summarize(network, batch_of(1, 32, 32), 2, OptimizerConfig(name))
    if name in STATES:
        assert summary.optimizer_bytes == STATES[name] * summary.gradient_bytes
    optimizer = training_work.ReconModule(network, OptimizerConfig(name)).configure_optimizers()["optimizer"]
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    kept = [t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t) and t.ndim]
    assert summary.optimizer_bytes == pytest.approx(sum(t.nbytes for t in kept), rel=0.01)  # muon: the last layer


def test_frozen_weights_have_neither_gradient_nor_state():
    network = UNet(channels=4, pools=2)
    network.conv.requires_grad_(False)
    summary = summarize(network, batch_of(1, 32, 32), 2, ADAM)
    trained = 4 * sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert summary.gradient_bytes == trained < summary.weight_bytes
    assert summary.optimizer_bytes == 2 * trained


def test_network_and_random_numbers_are_left_as_they_were():
    network = UNet(channels=4, pools=2, norm="batch", dropout=0.5)
    network.up_conv.eval()  # modes stay what they are, each
    modes = [module.training for module in network.modules()]
    state = copy.deepcopy(network.state_dict())
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    summarize(network, batch_of(1, 32, 32), 2, ADAM)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert [module.training for module in network.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.fixture
def config(tmp_path, volume_writer):
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for i, matrix in enumerate([(32, 32), (40, 36)]):
            volume_writer(tmp_path / "data" / split / f"{split}{i}.h5", matrix=matrix, n_coils=2, n_slices=2)
    return TrainConfig(
        data=DataConfig(path=str(tmp_path / "data")),
        model=ModelConfig(channels=4, pools=2, norm="batch", dropout=0.3),
        batch_size=2,
        max_steps=20,
        val_every=20,
        precision="fp32",
        device="cpu",
        threads=1,
        output=str(tmp_path / "run"),
    )


def test_a_run_says_its_size_and_keeps_it(config, capsys):
    run = train(config)
    facts = json.loads(run.provenance.read_text())["model"]
    assert facts["image_shape"] == [40, 36]  # the largest
    assert facts["batch_size"] == 2
    state = torch.load(run.checkpoint("last"), weights_only=True)
    weights = [v for k, v in state["state_dict"].items() if not k.endswith(("running_mean", "running_var", "_tracked"))]
    moments = [v for kept in state["optimizer_states"][0]["state"].values() for v in kept.values() if v.ndim]
    assert facts["parameters"] == sum(v.numel() for v in weights)
    assert facts["flop_per_slice"] == convolution_flop(4, 2, 40, 36)
    in_checkpoint = 2 * sum(v.nbytes for v in weights) + sum(v.nbytes for v in moments)  # and as many gradients
    one = summarize(UNet(channels=4, pools=2, norm="batch"), batch_of(1, 40, 36), 1, OptimizerConfig()).activation_bytes
    assert facts["step_bytes"] == in_checkpoint + 2 * one
    assert f"size        {facts['parameters']:,} parameters, " in capsys.readouterr().err


def test_losses_are_those_of_a_run_without_it(config, monkeypatch):
    measured = losses(train(config))
    known = summarize(UNet(channels=4, pools=2), batch_of(1, 32, 32), 2, ADAM)
    monkeypatch.setattr(training_work, "summarize", lambda *a: known)
    assert losses(train(replace(config, output=f"{config.output}-without"))) == measured


def losses(run):
    with run.curves.open() as handle:
        return [(row["train_loss"], row["val_loss"], row["val_ssim"]) for row in csv.DictReader(handle)]


STEP = """
import gc, sys, torch
from mrirecon.config import OptimizerConfig
from mrirecon.models import UNet
from mrirecon.training.module import ReconModule
from test_footprint import batch_of

def kib(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1])

def two_steps(channels, size, n, norm, precision):
    module = ReconModule(UNet(channels=channels, norm=norm), OptimizerConfig("adam"))
    optimizer = module.configure_optimizers()["optimizer"]
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision != "fp32"):
            loss = module.sample_loss(batch_of(n, size, size))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

two_steps(4, 32, 1, *sys.argv[1:])  # libraries are loaded, threads are there
gc.collect()
before = kib("VmRSS")
two_steps(32, 320, 2, *sys.argv[1:])
print((kib("VmHWM") - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets how glibc keeps memory, and reads /proc")
@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_memory_is_that_of_a_real_step(norm, precision, request):
    """Within 25 %: the largest gradients and the kernels' buffers come on top of what is counted.

    Freed blocks go back to the system at once here; a heap with holes needs up to a quarter more.
    """
    done = subprocess.run(
        [sys.executable, "-c", STEP, norm, precision],
        capture_output=True,
        check=True,
        text=True,
        cwd=request.path.parent,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    context = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision != "fp32")
    summary = summarize(UNet(norm=norm), batch_of(1, 320, 320), 2, ADAM, precision=context)
    ratio = summary.step_bytes / int(done.stdout)
    print(f"{norm}, {precision}: {summary.step_bytes / MIB:.0f} MiB counted, ratio to measured {ratio:.2f}")
    assert 0.75 < ratio < 1.1
