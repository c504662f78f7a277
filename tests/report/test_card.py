"""The model card says what the run folder holds, and no more."""

import csv
import json

import pytest
from result_rows import row, rows

from mrirecon.config import AverageConfig, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.configfile import save
from mrirecon.evaluation.summary import summarize
from mrirecon.report.text.card import Artefact, CardFacts, model_card
from mrirecon.runs import RunFolder

COLUMNS = ("step", "val_ssim", "val_psnr", "val_nmse")


@pytest.fixture
def run(tmp_path):
    """A run folder written by hand; patients are called Doe."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    config = TrainConfig(
        data=DataConfig(path=str(tmp_path / "secret"), mask="random", acceleration=[4, 8]),
        model=ModelConfig(norm={"class_path": "torch.nn.BatchNorm2d", "init_args": {}}),
        optimizer=OptimizerConfig("adamw"),
        average=AverageConfig(name="ema"),
        max_steps=300,
        seed=7,
    )
    save(config, run.config)
    masks = {"name": "random", "accelerations": [4.0, 8.0], "center_fractions": [0.08, 0.04]}
    recorded = {
        "mrirecon": "0.0.9",
        "git": {"commit": "abc123", "dirty": True},
        "packages": {"torch": "2.7.0"},
        "python": "3.12.1",
        "data_manifest": {"sha256": "feed"},
        "masks": masks,
        "protocol": "fastmri-v1",
        "precision": "bf16-mixed",
        "batch": {"size": 2, "processes": 3, "accumulate": 1, "slices_per_step": 6},
    }
    run.provenance.write_text(json.dumps(recorded))
    run.split.write_text(json.dumps({"train": ["Doe1.h5", "Doe2.h5"], "val": ["Doe3.h5"]}))
    with run.curves.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerows(
            [COLUMNS, (100, 0.81, 30.1, 0.05), (200, "", "", ""), (200, 0.92, 33.5, 0.02), (300, 0.9, 33, 0.03)]
        )
    return run


def card(run, **changes):
    facts = {
        "run": run,
        "checkpoint": "best",
        "inputs": {"image": "(batch, height, width)"},
        "n_parameters": 1234,
        "smallest_size": 32,
        "artefacts": [Artefact("safetensors", "model.safetensors", 5_000_000, 2.5e-7)],
        "n_images": 6,
        "checked_on": "validation slices",
        "data": None,
        "made_with": {"mrirecon": "0.1.0", "git": None, "packages": {"torch": "2.8.0"}, "python": "3.11.2"},
    }
    return model_card(CardFacts(**facts | changes))


def evaluated(run, name, results, checkpoint="best"):
    folder = run.path / "evaluation" / name
    folder.mkdir(parents=True)
    summary = {"protocol": {"name": "fastmri-v1"}, "checkpoint": checkpoint, "data": "/home/Doe", **summarize(results)}
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary["overall"]


def test_it_says_network_data_recipe_and_provenance(run):
    text = card(run)
    for words in (
        "# Model card: unet, torch.nn.BatchNorm2d norm, adamw",
        "1,234 parameters",
        "| `model.safetensors` | safetensors | 5.00 MB | 2.5e-07 |",
        "train 2, val 1; slices and origin not known",
        "SHA-256): feed",
        "random, 4x (center fraction 0.08) or 8x (center fraction 0.04)",
        "length: 300 steps; 6 slices per step; precision bf16-mixed",
        "averaged weights: name ema",
        "seed: 7",
        "not for clinical use",
        "trained with: mrirecon 0.0.9 (commit abc123 (changed)), torch 2.7.0, Python 3.12.1",
        "exported with: mrirecon 0.1.0 (no commit), torch 2.8.0, Python 3.11.2",
        "The run has not been evaluated",
    ):
        assert words in text


def test_nobody_and_no_place_is_named(run, tmp_path):
    evaluated(run, "set-val-random-4x", [row("Doe3.h5")])
    text = card(run)
    assert "Doe" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("checkpoint", "line"),
    [
        ("best", "best (step 200), fastmri-v1: SSIM 0.9200, PSNR 33.50 dB, NMSE 0.0200."),
        ("last", "last (step 300), fastmri-v1: SSIM 0.9000, PSNR 33.00 dB, NMSE 0.0300."),
    ],
)
def test_the_validation_is_that_of_the_checkpoint(run, checkpoint, line):
    assert line in card(run, checkpoint=checkpoint)


@pytest.mark.parametrize(("monitor", "step"), [("ssim", 200), ("psnr", 200), ("nmse", 300)])
def test_the_best_is_best_by_the_score_that_the_run_monitored(run, monitor, step):
    with run.curves.open("w", newline="") as handle:
        csv.writer(handle).writerows([COLUMNS, (200, 0.92, 33.5, 0.04), (300, 0.9, 33, 0.03)])
    run.config.write_text(run.config.read_text().replace("monitor: ssim", f"monitor: {monitor}"))
    assert f"best (step {step})" in card(run)


def test_a_checkpoint_whose_step_is_known_has_the_validation_of_that_step(run):
    """Of a run with averages, the best checkpoint may not have the best score of the curve."""
    assert "best (step 300), fastmri-v1: SSIM 0.9000, PSNR 33.00 dB, NMSE 0.0300." in card(run, step=300)
    assert "No validation is recorded." in card(run, step=250)


def test_every_evaluation_has_its_interval_and_zero_filled_beside(run):
    overall = evaluated(run, "knee-test-random-4x", rows(6))
    evaluated(run, "knee-test-random-8x", rows(2), checkpoint="last")
    lines = [line for line in card(run).splitlines() if line.startswith("| knee")]
    assert [line.split(" | ")[:4] for line in lines] == [
        [f"| knee-test-random-{r}x", "fastmri-v1", image, f"{n} ({n})"]
        for r, n, checkpoint in ((4, 6, "best"), (8, 2, "last"))
        for image in (checkpoint, "zero-filled")
    ]
    ssim = overall["ssim"]
    assert lines[0].split(" | ")[4] == f"0.8250 [{ssim['low']:.4f}, {ssim['high']:.4f}]"
    assert lines[1].endswith("| 28.00 [28.00, 28.00] | 0.0500 [0.0500, 0.0500] |")
    assert lines[2].split(" | ")[4] == "0.8050"  # too few patients for an interval


def test_simulated_data_are_a_limit(run):
    data = {
        "train_volumes": 3,
        "train_slices": 30,
        "val_volumes": 1,
        "origins": {"measured": 1, "simulated-from-phantom": 2},
        "acquisitions": {"AXT2": 3},
    }
    text = card(run, data=data)
    assert "3 volumes, 30 slices; validation: 1 volume\n" in text
    assert "origin: measured (1 volume), simulated-from-phantom (2 volumes)" in text
    assert "trained on simulated data (simulated-from-phantom)" in text
    assert "(acquisition): AXT2" in text
    assert "simulated data" not in card(run, data={**data, "origins": {"measured": 3}})


def test_a_file_that_is_bound_to_a_size_says_so(run):
    bound = Artefact("onnx", "model.onnx", 1, 0.0, (320, 300))
    text = card(run, artefacts=[bound])
    assert "(but `model.onnx`: 320 x 300 pixels only)" in text
    assert "np.random.rand(1, 320, 300)" in text


def test_what_is_missing_leaves_a_gap(run):
    for path in (run.provenance, run.split, run.curves):
        path.unlink()
    text = card(run)
    assert "No validation is recorded." in text
    assert "SHA-256): not recorded" in text
    assert "random, 4x or 8x" in text
