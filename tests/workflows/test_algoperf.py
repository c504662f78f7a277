"""The protocol algoperf-v1: its masks, splits, clamped target and mean over slices."""

import json

import fastmri
import h5py
import numpy as np
import pytest
import torch
from fastmri.data.subsample import RandomMaskFunc
from skimage.metrics import structural_similarity

from mrirecon.config import DataConfig, EvaluateConfig, ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.evaluation.results import read_results
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.train import train


@pytest.fixture(scope="module")
def knees(tmp_path_factory, volume_writer):
    """Single-coil files of two widths; one has a bright spot that the clamping cuts, all a `max` of their own."""
    root = tmp_path_factory.mktemp("knees")
    for split, n in (("train", 2), ("val", 5)):
        (root / split).mkdir()
        for i in range(n):
            path = volume_writer(
                root / split / f"file{i}.h5", n_slices=2 + i % 2, n_coils=1, seed=i, matrix=(40, 37 if i % 2 else 40)
            )
            with h5py.File(path, "a") as file:
                if i == 0:
                    file["reconstruction_esc"][0, 20, 20] *= 30
                file.attrs["max"] = float(file["reconstruction_esc"][()].max()) * 1.1
    return root


def config(folder, tmp_path, **changes):
    values = {
        "data": DataConfig(path=str(folder), mask="random"),
        "output": str(tmp_path / "out"),
        "protocol": "algoperf-v1",
        "save": True,
        "device": "cpu",
    }
    return EvaluateConfig(**values | changes)


def ssim_of_slices(path, reconstructions):
    """By hand: mask of width and seed 0, target clamped to 6 SD of the zero-filled input, range from the attribute."""
    with h5py.File(path) as file, h5py.File(reconstructions) as images:
        width = file["kspace"].shape[-1]
        n_center = int(0.08 * width)
        mask, _ = RandomMaskFunc([n_center / width], [4])((1, width, 2), None, (0,))
        for kspace, target, image in zip(
            file["kspace"], file["reconstruction_esc"], images["reconstruction"], strict=True
        ):
            masked = torch.view_as_real(torch.as_tensor(kspace)) * mask + 0.0
            zero_filled = fastmri.complex_abs(fastmri.ifft2c(masked)).numpy()
            top = (zero_filled.shape[0] - target.shape[0]) // 2
            zero_filled = zero_filled[top : top + target.shape[0]]
            np.testing.assert_allclose(image, zero_filled, rtol=1e-4, atol=1e-6)
            mean, sd = zero_filled.mean(), zero_filled.std()
            clamped = np.clip((target - mean) / sd, -6, 6) * sd + mean
            yield structural_similarity(clamped, image, data_range=file.attrs["max"])


def test_scores_equal_the_definition_by_skimage(knees, tmp_path):
    (out,) = evaluate(config(knees, tmp_path), "zero-filled")
    slices = []
    for result in read_results(out / "volumes.csv"):
        of_volume = list(ssim_of_slices(knees / result.volume, out / "reconstructions" / result.volume))
        assert result.ssim == pytest.approx(np.mean(of_volume), abs=2e-5)  # their SD is not the unbiased one
        slices += of_volume
    summary = json.loads((out / "summary.json").read_text())
    assert len(slices) == 7
    assert summary["overall"]["ssim"]["mean"] == pytest.approx(np.mean(slices), abs=2e-5)
    assert summary["protocol"]["name"] == "algoperf-v1"


def test_clamping_and_the_attribute_matter(knees, tmp_path):
    (ours,) = evaluate(config(knees, tmp_path, protocol="fastmri-v1", output=str(tmp_path / "a")), "zero-filled")
    (theirs,) = evaluate(config(knees, tmp_path, output=str(tmp_path / "b")), "zero-filled")
    first, second = (read_results(path / "volumes.csv")[0] for path in (ours, theirs))
    assert first.volume == second.volume == "val/file0.h5"
    assert abs(first.psnr - second.psnr) > 3


def test_val_is_the_first_half_by_name_and_test_the_second(knees, tmp_path, capsys):
    names = {}
    for split in ("val", "test"):
        (out,) = evaluate(config(knees, tmp_path, split=split, output=str(tmp_path / split)), "zero-filled")
        names[split] = [r.volume for r in read_results(out / "volumes.csv")]
    assert names == {"val": ["val/file0.h5", "val/file1.h5", "val/file2.h5"], "test": ["val/file3.h5", "val/file4.h5"]}
    assert "val is halved by name: 3 volumes to tune, 2 to test" in capsys.readouterr().err


def test_volumes_of_one_width_share_a_mask(knees, tmp_path):
    (out,) = evaluate(config(knees, tmp_path), "zero-filled")
    first, second, third = (r.mask_id for r in read_results(out / "volumes.csv"))
    assert first == third != second


def test_training_validates_under_the_protocol_and_its_evaluation_follows(knees, tmp_path, capsys):
    """The number that training prints for a run is that of `evaluate` under the run's protocol."""
    from mrirecon.cli import main

    run = train(
        TrainConfig(
            data=DataConfig(path=str(knees), mask="random", fixed_masks=True),
            protocol="algoperf-v1",
            max_steps=3,
            model=ModelConfig(channels=4, pools=2),
            optimizer=OptimizerConfig("nadamw", 1e-3),
            precision="fp32",
            batch_size=1,
            device="cpu",
            threads=1,
            output=str(tmp_path / "run"),
        )
    )
    assert json.loads(run.provenance.read_text())["protocol"] == "algoperf-v1"
    assert len(json.loads(run.split.read_text())["val"]) == 3
    assert main(["evaluate", str(run.path), "--threads", "1", "--checkpoint", "last", "--quiet"]) == 0
    assert "protocol algoperf-v1, means over slices" in capsys.readouterr().out
    (out,) = run.path.glob("evaluation/*")
    assert out.name == f"{knees.name}-val-random-4x-algoperf-v1"
    printed = [line.split(",") for line in run.curves.read_text().splitlines()][-1]
    assert float(printed[5]) == pytest.approx(json.loads((out / "summary.json").read_text())["overall"]["ssim"]["mean"])


def test_an_unknown_protocol_is_refused(knees, tmp_path):
    with pytest.raises(InputError, match="unknown protocol 'algoperf'; did you mean 'algoperf-v1'"):
        evaluate(config(knees, tmp_path, protocol="algoperf"), "zero-filled")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0.0, -1.0, "abc", float("nan")])
def test_a_wrong_attribute_is_found_before_any_work(tmp_path, volume_writer, value):
    for split in ("train", "val"):
        path = volume_writer(tmp_path / "data" / split / f"{split}.h5", matrix=(32, 32))
    with h5py.File(path, "a") as file:
        file.attrs["max"] = value
    with pytest.raises(InputError, match=r"val/val\.h5: its attribute 'max' is .*, not a number above 0"):
        train(
            TrainConfig(
                data=DataConfig(path=str(tmp_path / "data")),
                protocol="algoperf-v1",
                output=str(tmp_path / "run"),
                device="cpu",
            )
        )
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="not a number above 0"):
        evaluate(config(tmp_path / "data", tmp_path), "zero-filled")


def test_one_file_cannot_be_halved(tmp_path, volume_writer):
    volume_writer(tmp_path / "data" / "val" / "v.h5", matrix=(32, 32))
    with pytest.raises(InputError, match="has one file, which cannot be halved"):
        evaluate(config(tmp_path / "data", tmp_path, split="test"), "zero-filled")


def test_a_flat_folder_says_that_its_splits_are_others(tmp_path, volume_writer, capsys):
    for i in range(3):
        volume_writer(tmp_path / "data" / f"v{i}.h5", matrix=(32, 32), seed=i)
    evaluate(config(tmp_path / "data", tmp_path), "zero-filled")
    assert "no val folder to halve by name" in capsys.readouterr().err


def test_a_centre_of_no_column_is_refused_as_it_was_given(knees, tmp_path):
    data = DataConfig(path=str(knees), mask="random", center_fraction=[0.02])
    with pytest.raises(InputError, match=r"center fraction 0\.02 of \d+ columns, rounded down, is no column"):
        evaluate(config(knees, tmp_path, data=data), "zero-filled")
