"""Whole trainings: what they leave behind, that they learn, repeat, and fail clearly."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fastmri import evaluate
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from mrirecon import configfile
from mrirecon.cli import main
from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from mrirecon.data import ReconDataModule, SliceDataset, to_image
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.models import NORMS
from mrirecon.training import build
from mrirecon.training.build import build_model, load_reconstructor
from mrirecon.training.loop.validation import Validation
from mrirecon.training.recipe.optimizers import OPTIMIZERS
from mrirecon.workflows.setup import training_work
from mrirecon.workflows.setup.training_work import TrainingWork
from mrirecon.workflows.train import train


def rows(run):
    with run.curves.open() as handle:
        return list(csv.DictReader(handle))


def losses(run):
    return [float(row["train_loss"]) for row in rows(run) if row["train_loss"]]


def test_a_run_folder_is_complete_and_readable_without_the_package(quick):
    run = train(quick())
    files = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml",
        "provenance.json",
        "split.json",
        "data.csv",
        "curves.csv",
        "checkpoints/last.ckpt",
        "checkpoints/last.ckpt.sha256",
        "checkpoints/best.ckpt",
        "checkpoints/best.ckpt.sha256",
        "weights.safetensors",
    }
    facts = json.loads(run.provenance.read_text())
    assert facts["protocol"] == "fastmri-v1"
    assert facts["precision"] == "fp32"
    assert facts["data_manifest"]["n_volumes"] == 6
    assert torch.__version__.startswith(facts["packages"]["torch"])
    assert set(json.loads(run.split.read_text())) == {"train", "val", "test"}
    last = rows(run)[-1]
    assert int(last["step"]) == 11
    assert 0 < float(last["val_ssim"]) <= 1


def test_weights_equal_the_best_checkpoint(quick):
    run = train(quick())
    scores = {int(r["step"]): float(r["val_ssim"]) for r in rows(run) if r["val_ssim"]}
    best = torch.load(run.checkpoint("best"), weights_only=True)
    assert best["global_step"] == max(scores, key=scores.get)
    weights = load_file(run.weights)
    for name, value in weights.items():
        assert torch.equal(value, best["state_dict"][f"model.{name}"])


def test_it_learns(quick):
    """The network overfits twelve small slices: the loss falls well below its start."""
    model = ModelConfig(channels=8, pools=2)
    run = train(quick(max_steps=150, val_every=150, model=model, optimizer=OptimizerConfig("adam", 3e-3)))
    first, *_, last = losses(run)
    assert last < 0.6 * first


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains(quick, name):
    lr = {"gd": 0.05, "sgd": 0.05, "momentum": 0.01, "nesterov": 0.01}.get(name, 2e-3)
    model = ModelConfig(channels=4, pools=2)
    run = train(quick(max_steps=20, val_every=20, model=model, optimizer=OptimizerConfig(name, lr)))
    first, last = losses(run)
    assert last < first


def test_without_a_rate_a_method_trains_with_the_recommended_one_and_says_so(quick, capsys):
    schedule = ScheduleConfig("constant")
    chosen = train(quick("auto", max_steps=3, optimizer=OptimizerConfig("lion"), schedule=schedule))
    assert "optimizer   name lion, lr 0.0002, recommended for lion" in capsys.readouterr().err
    assert configfile.load(TrainConfig, chosen.config).optimizer.lr == 2e-4
    assert {float(row["lr"]) for row in rows(chosen) if row["lr"]} == {2e-4}
    given = train(quick("given", max_steps=3, optimizer=OptimizerConfig("lion", 2e-4), schedule=schedule))
    assert "recommended" not in capsys.readouterr().err
    for file in ("config", "weights"):
        assert getattr(chosen, file).read_bytes() == getattr(given, file).read_bytes()


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_trains_and_loads_back(quick, norm):
    """The network that is loaded has the exported weights and gives the images that the training scored."""
    config = quick(max_steps=2, val_every=2, model=ModelConfig(channels=4, pools=2, norm=norm))
    run = train(config)
    module = load_reconstructor(run)
    state = module.model.state_dict()
    assert state.keys() == (weights := load_file(run.weights)).keys()
    assert all(torch.equal(state[name], value) for name, value in weights.items())
    volumes = {}
    with torch.inference_mode():
        for batch in ReconDataModule(config.data, batch_size=2).val_dataloader()[0]:
            for name, *pair in zip(batch.volume, batch.target.numpy(), module(batch).numpy(), strict=True):
                volumes.setdefault(name, []).append(pair)
    ssim = np.mean([evaluate.ssim(*map(np.stack, zip(*slices, strict=True))) for slices in volumes.values()])
    assert float(rows(run)[-1]["val_ssim"]) == pytest.approx(ssim, rel=1e-5)


def test_a_reconstructor_returns_images_in_the_units_of_the_target(quick, small_data):
    """The network works on standardised, clamped images; data in other units give the images in those."""
    module = load_reconstructor(train(quick(max_steps=40, val_every=40, optimizer=OptimizerConfig("adam", 3e-3))))
    sample = SliceDataset(small_data / "val", mask="random", transform=to_image)[1]
    batch = sample._replace(**{k: v[None] for k, v in zip(sample._fields, sample, strict=True) if torch.is_tensor(v)})
    mean, std = sample.image.mean(), sample.image.std()
    with torch.inference_mode():
        image = module(batch)
        by_hand = module.model(((sample.image - mean) / std).clamp(-6, 6)[None, None])[:, 0] * std + mean
        scaled = {k: getattr(batch, k) * 1e-6 for k in ("image", "mean", "std")}
        torch.testing.assert_close(module(batch._replace(**scaled)) * 1e6, image, rtol=1e-4, atol=1e-4 * float(std))
    torch.testing.assert_close(image, by_hand, rtol=1e-4, atol=1e-4 * float(std))


def test_auto_is_bf16_where_the_kernel_lists_its_instructions(quick):
    """Recorded with the run, and what the convolutions of the training really give."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    if "flags" not in flags:
        pytest.skip("no x86 flags in /proc/cpuinfo")
    kinds = set()

    def note(layer, _inputs, output):
        if isinstance(layer, torch.nn.Conv2d):
            kinds.add(output.dtype)

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        run = train(quick(max_steps=1, val_every=1, precision="auto"))
    finally:
        hook.remove()
    has_bf16 = bool({"avx512_bf16", "amx_bf16"} & set(flags))
    assert json.loads(run.provenance.read_text())["precision"] == ("bf16-mixed" if has_bf16 else "fp32")
    assert (torch.bfloat16 in kinds) == has_bf16


@pytest.mark.parametrize("name", [name for name in configfile.shipped_configs() if name.startswith("preset/")])
def test_every_preset_trains_with_flags_over_it(small_data, tmp_path, name):
    words = ["--channels", "4", "--pools", "2", "--max-steps", "2", "--batch-size", "2", "--val-every", "2"]
    words += ["--data", str(small_data), "--device", "cpu", "--threads", "1", "--quiet"]
    assert main(["train", "-c", name, *words, "--output", str(tmp_path / "run")]) == 0


def test_the_stored_configuration_repeats_the_run(quick, tmp_path):
    first = train(quick("first"))
    again = configfile.load(TrainConfig, first.config)
    second = train(replace(again, output=str(tmp_path / "second")))
    assert losses(second) == pytest.approx(losses(first), abs=1e-6)


def test_a_run_made_with_a_relative_path_repeats_from_anywhere(quick, small_data, tmp_path, monkeypatch):
    monkeypatch.chdir(small_data.parent)
    run = train(quick("relative", data=DataConfig(path=small_data.name), max_steps=2))
    monkeypatch.chdir(tmp_path)
    again = configfile.load(TrainConfig, run.config)
    repeated = train(replace(again, output=str(tmp_path / "again")))
    assert losses(repeated) == losses(run)


def test_a_norm_by_class_path(quick):
    run = train(quick(max_steps=1, model=ModelConfig(channels=4, pools=2, norm="torch.nn.BatchNorm2d")))
    kinds = [type(m) for m in load_reconstructor(run).model.modules() if "Norm" in type(m).__name__]
    assert kinds == [torch.nn.BatchNorm2d] * 12


def test_four_and_eight_fold_training(quick):
    data = replace(quick().data, acceleration=[4, 8])
    run = train(quick(data=data, max_steps=6, val_every=6))
    masks = json.loads(run.provenance.read_text())["masks"]
    assert masks["accelerations"] == [4, 8]
    assert masks["center_fractions"] == [0.08, 0.04]


def test_training_masks_change_and_both_accelerations_are_drawn(quick):
    from mrirecon.data.loading.datamodule import ReconDataModule

    module = ReconDataModule(replace(quick().data, acceleration=[4, 8]), batch_size=2)
    module.plan(60)
    batches = list(module.train_dataloader())
    assert {a for batch in batches for a in batch.acceleration.tolist()} == {4.0, 8.0}
    assert len({mask for batch in batches for mask in batch.mask_id}) > 20


def test_gd_takes_the_whole_training_set_in_each_step(quick):
    """One step equals one hand-made step with the gradient of the mean loss over all slices."""
    from mrirecon.data.loading.datamodule import ReconDataModule
    from mrirecon.training.module import ReconModule

    model = ModelConfig(channels=4, pools=2, norm="instance", residual=False)
    config = quick(max_steps=1, batch_size=5, model=model, optimizer=OptimizerConfig("gd", 0.1))
    config = replace(config, schedule=replace(config.schedule, name="constant"))
    run = train(config)
    torch.manual_seed(config.seed)
    module = ReconModule(build_model(model))
    data = ReconDataModule(config.data, batch_size=1)
    samples = {(i, seed) for batch in ReconDataModule(config.data, 5).stream for i, seed in batch}
    total = sum(
        module.sample_loss(type(b := data.train_set[pair])(*torch.utils.data.default_collate([b]))) for pair in samples
    )
    (total / len(samples)).backward()
    stepped = {f"model.{n}": p - 0.1 * p.grad for n, p in module.model.named_parameters()}
    trained = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    for name, value in stepped.items():
        torch.testing.assert_close(trained[name], value.detach(), rtol=1e-4, atol=1e-6)


def test_divergence_stops_with_exit_code_1_and_keeps_the_last_good_checkpoint(quick, tmp_path, capsys):
    config = quick(
        max_steps=60,
        val_every=1,
        model=ModelConfig(channels=4, pools=2, norm="none"),
        optimizer=OptimizerConfig("sgd", 1e3),
    )
    config = replace(config, schedule=replace(config.schedule, name="constant", warmup=40))
    with pytest.raises(WorkFailedError, match="diverged at step"):
        train(config)
    configfile.save(config, tmp_path / "c.yaml")
    assert main(["train", "-c", str(tmp_path / "c.yaml"), "--overwrite", "--quiet"]) == 1
    assert "lower --lr" in capsys.readouterr().err
    state = torch.load(f"{config.output}/checkpoints/last.ckpt", weights_only=True)
    assert all(torch.isfinite(v).all() for v in state["state_dict"].values())


def test_scores_that_are_no_numbers_stop_the_training(quick, monkeypatch):
    original = Validation.__call__
    monkeypatch.setattr(Validation, "__call__", lambda *a: original(*a) | {"val_ssim": float("nan")})
    with pytest.raises(WorkFailedError, match="SSIM nan"):
        train(quick(max_steps=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ModelConfig(norm="grup")}, "did you mean 'group'"),
        ({"optimizer": OptimizerConfig("adma")}, "did you mean 'adam'"),
        ({"loss": "l2"}, "unknown loss 'l2'"),
        ({"precision": "fp16"}, "unknown precision"),
        ({"device": "gpu"}, "unknown device"),
        ({"max_steps": 5, "max_epochs": 5}, "both given"),
        ({"batch_size": 0}, "at least 1"),
        ({"model": ModelConfig(pools=5)}, "too small"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": -1}, "threads is -1"),
        ({"data": DataConfig(workers=-1)}, "workers is -1"),
        (
            {"model": ModelConfig(norm={"class_path": "torch.nn.BatchNorm2d", "init_args": {"foo": 1}})},
            "cannot be made",
        ),
        ({"logger": "tensorbord"}, "unknown logger"),
        ({"data": DataConfig(path="nowhere")}, "nowhere"),
        ({"data": DataConfig()}, "no data folder"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(quick, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        train(quick(**change))
    assert not (tmp_path / "run").exists()


def test_a_center_that_leaves_nothing_to_undersample_is_refused_before_anything_is_written(quick, tmp_path):
    data = replace(quick().data, acceleration=[8, 4], center_fraction=[0.04, 0.3])
    with pytest.raises(InputError, match=r"center fraction 0\.3"):
        train(quick(data=data))
    assert not (tmp_path / "run").exists()


def test_a_damaged_file_is_named_before_training_starts(quick, tmp_path, volume_writer):
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        volume_writer(tmp_path / "data" / split / f"{split}.h5", matrix=(32, 32))
    bad = tmp_path / "data" / "train" / "bad.h5"
    bad.write_bytes((tmp_path / "data" / "train" / "train.h5").read_bytes()[:3000])
    with pytest.raises(InputError, match=r"train/bad\.h5") as caught:
        train(quick(data=DataConfig(path=str(tmp_path / "data"))))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_flat_folder_split_is_by_patient_and_stored(quick, tmp_path, volume_writer):
    (tmp_path / "flat").mkdir()
    for patient in range(4):
        for scan in range(2):
            volume_writer(
                tmp_path / "flat" / f"p{patient}s{scan}.h5",
                matrix=(32, 32),
                patient_id=f"p{patient}",
                n_slices=1,
            )
    run = train(quick(data=DataConfig(path=str(tmp_path / "flat")), max_steps=2))
    split = json.loads(run.split.read_text())
    patients = {name: {file[:2] for file in files} for name, files in split.items()}
    assert sum(len(files) for files in split.values()) == 8
    assert patients["train"].isdisjoint(patients["val"] | patients["test"])
    assert patients["val"].isdisjoint(patients["test"])


@pytest.mark.realdata
def test_real_single_coil_files_train(quick, shared_data):
    run = train(quick(data=DataConfig(path=str(shared_data / "singlecoil")), max_steps=3, val_every=3))
    assert len(losses(run)) == 1


def test_what_does_not_fit_is_refused_before_the_network_is_made(quick, monkeypatch):
    def unexpected(_config):
        raise AssertionError("the network was made")

    monkeypatch.setattr(build.Design, "build", unexpected)
    with pytest.raises(InputError, match="too small: 6 pools need 128 x 128"):
        train(quick(model=ModelConfig(channels=4, pools=6)))
    monkeypatch.setattr(build, "machine_memory", lambda _device: 50 * 2**20)
    with pytest.raises(InputError, match=r"has 7,756,097 parameters .model.channels 32, pools 4.: 0.1 GiB with their"):
        train(quick(model=ModelConfig(channels=32, pools=4)))


def test_a_step_that_does_not_fit_is_refused_with_its_size(quick, monkeypatch, tmp_path):
    """The slices that there are count, not those that were asked for."""
    monkeypatch.setattr(training_work, "machine_memory", lambda _device: 2**20)
    out = tmp_path / "run"
    with pytest.raises(
        InputError, match=r"step of (\d) slices takes more than .* use a smaller --batch-size"
    ) as refused:
        train(quick(batch_size=10_000, output=str(out)))
    n = int(re.search(r"step of (\d+) slices", str(refused.value))[1])
    assert not out.exists()
    monkeypatch.undo()
    run = train(quick(batch_size=10_000, max_steps=1, output=str(out)))
    assert json.loads(run.provenance.read_text())["model"]["batch_size"] == n


def test_the_default_recipe_is_muons(quick, small_data, capsys):
    config = TrainConfig(
        data=DataConfig(path=str(small_data)),
        model=ModelConfig(channels=4, pools=2),
        max_steps=4,
        val_every=2,
        threads=1,
        device="cpu",
        output=quick().output,
    )
    run = train(config)
    said = capsys.readouterr().err
    lr = OPTIMIZERS["muon"].lr
    assert f"optimizer   name muon, lr {lr:g}, recommended for muon" in said
    assert "schedule    name linear" in said
    assert "4 steps x 1 slices" in said
    assert "residual True" in said
    groups = torch.load(run.checkpoint("last"), weights_only=True)["optimizer_states"][0]["param_groups"]
    assert {group["initial_lr"] for group in groups} == {lr}


def test_options_of_muon_reach_it(quick):
    given = OptimizerConfig("muon", 3e-3, momentum=0.7, betas=[0.8, 0.9], weight_decay=0.1)
    groups = TrainingWork(quick(optimizer=given)).module.configure_optimizers()["optimizer"].param_groups
    assert {group["momentum"] for group in groups} == {0.7}
    assert {tuple(group["betas"]) for group in groups} == {(0.8, 0.9)}
    assert {(p.ndim > 1, group["weight_decay"]) for group in groups for p in group["params"]} == {
        (True, 0.1),
        (False, 0.0),
    }
    with pytest.raises(InputError, match="optimizer 'muon' has no option 'alpha'"):
        TrainingWork(quick(optimizer=OptimizerConfig("muon", alpha=0.9)))


FUSED = [name for name, entry in OPTIMIZERS.items() if entry.fixed.get("fused")]


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
@pytest.mark.parametrize("name", [*FUSED, "muon"])
@pytest.mark.cells(4)
def test_gradients_are_clipped_for_fused_methods_too(quick, name, precision):
    """Each step sees a gradient of at most that length, where without clipping it is longer."""
    config = quick(optimizer=OptimizerConfig(name), precision=precision, max_steps=2, val_every=2)
    norms, n_weights = [], len(list(build_model(config.model).parameters()))

    def note(optimizer, _args, _kwargs):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if len(gradients) == n_weights:  # else the memory of a step is being looked at
            norms.append(float(torch.stack([g.double().norm() for g in gradients]).norm()))

    hook = register_optimizer_step_post_hook(note)
    try:
        train(config)
        free, norms[:] = list(norms), []
        train(replace(config, clip=1e-3, output=f"{config.output}-clipped"))
    finally:
        hook.remove()
    assert len(free) == len(norms) == 2
    assert min(free) > 2e-3
    assert norms == pytest.approx([1e-3] * 2, rel=1e-3)
