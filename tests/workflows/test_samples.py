"""`--samples` and `--ensemble`: mean and SD per pixel of several reconstructions, held against the errors."""

import json

import h5py
import numpy as np
import pytest
from reconstructions import COLUMNS, attrs, images

from mrirecon.cli import main
from mrirecon.config import DataConfig, EvaluateConfig, ModelConfig, OptimizerConfig, ReconstructConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.evaluation.foreground import find_object
from mrirecon.reconstruct.network import weights_sha256
from mrirecon.runs import open_run
from mrirecon.training.build import load_reconstructor
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.reconstruct import reconstruct
from mrirecon.workflows.train import train


@pytest.fixture(scope="module")
def runs(small_data, tmp_path_factory):
    """Seeds 0 and 1 of one configuration with dropout, and one without."""
    root = tmp_path_factory.mktemp("runs")
    made = {}
    for name, seed, dropout in (("s0", 0, 0.2), ("s1", 1, 0.2), ("s2", 2, 0.2), ("plain", 1, 0.0)):
        settings = TrainConfig(
            data=DataConfig(path=str(small_data), mask="random"),
            model=ModelConfig(channels=4, pools=2, norm="instance", dropout=dropout),
            optimizer=OptimizerConfig(name="adam", lr=1e-2),
            max_steps=15,
            precision="fp32",
            device="cpu",
            seed=seed,
            output=str(root / name),
        )
        made[name] = str(train(settings).path)
    return made


@pytest.fixture
def folder(tmp_path, volume_writer):
    """Files with their own mask, so that both commands see the same; of one the object is known."""
    for i in range(2):
        path = volume_writer(
            tmp_path / "data" / "val" / f"own{i}.h5", mask=COLUMNS, attrs={"acceleration": 4}, seed=i, n_slices=3
        )
    with h5py.File(path, "r+") as file:
        file["object_mask"] = np.repeat((np.hypot(*np.mgrid[-1:1:48j, -1:1:40j]) < 0.6)[None], 3, 0).astype(np.uint8)
    return tmp_path / "data"


def to_images(folder, **changes):
    settings = {"output": str(folder.parent / "images"), "device": "cpu", "threads": 1}
    return ReconstructConfig(**settings | changes)


def to_scores(folder, **changes):
    settings = {"data": DataConfig(path=str(folder)), "device": "cpu", "threads": 1}
    return EvaluateConfig(**settings | {"output": str(folder.parent / "scores")} | changes)


def sd_of(path):
    with h5py.File(path) as file:
        assert file["reconstruction_sd"].dtype == np.float32
        return file["reconstruction_sd"][()]


def test_without_samples_nothing_is_there(folder, runs):
    done = reconstruct(to_images(folder), runs["s0"], [folder])
    with h5py.File(done.folder / "val" / "own0.h5") as file:
        assert list(file) == ["reconstruction"]
    (out,) = evaluate(to_scores(folder), runs["s0"])
    assert "calibration" not in json.loads((out / "summary.json").read_text())


def test_samples_are_repeatable_and_known_again(folder, runs):
    done = reconstruct(to_images(folder, samples=3), runs["s0"], [folder])
    path = done.folder / "val" / "own0.h5"
    first, sd = images(path), sd_of(path)
    assert first.shape == sd.shape == (3, 48, 40)
    assert (sd >= 0).all()
    assert (sd > 0).mean() > 0.9
    assert json.loads(attrs(path)["options"])["samples"] == 3
    assert reconstruct(to_images(folder, samples=3), runs["s0"], [folder]).n_left == 2
    for changes in ({}, {"samples": 4}, {"samples": 3, "seed": 1}, {"samples": 3, "batch_size": 2}):
        with pytest.raises(InputError, match="is there already, made with options"):
            reconstruct(to_images(folder, **changes), runs["s0"], [folder])
    again = reconstruct(to_images(folder, samples=3, output=str(folder.parent / "two")), runs["s0"], [folder])
    assert np.array_equal(images(again.folder / "val" / "own0.h5"), first)
    assert np.array_equal(sd_of(again.folder / "val" / "own0.h5"), sd)
    other = reconstruct(to_images(folder, samples=3, seed=1, output=str(folder.parent / "three")), runs["s0"], [folder])
    assert not np.array_equal(sd_of(other.folder / "val" / "own0.h5"), sd)


def test_the_calibration_line_counts_the_pixels_within_two_sd(folder, runs, capsys):
    done = reconstruct(to_images(folder, samples=4), runs["s0"], [folder])
    (out,) = evaluate(to_scores(folder, samples=4, save=True, metrics=["psnr"]), runs["s0"])
    within = total = 0
    for i in range(2):
        name = f"val/own{i}.h5"
        image, sd = images(done.folder / name).astype(float), sd_of(done.folder / name)
        np.testing.assert_array_equal(images(out / "reconstructions" / name), images(done.folder / name))
        with h5py.File(folder / name) as file:
            target = file["reconstruction_rss"][()]
            stored = file["object_mask"][()] > 0 if "object_mask" in file else None
        for k in range(3):
            top = float(target.max())
            inside = find_object(target[k].astype(float), top) if stored is None else stored[k]
            within += np.count_nonzero((abs(image[k] - target[k]) <= 2 * sd[k]) & inside)
            total += np.count_nonzero(inside)
    found = json.loads((out / "summary.json").read_text())
    assert found["samples"] == 4
    assert found["calibration"]["n_object_pixels"] == total
    assert found["calibration"]["within_2_sd"] == pytest.approx(within / total, abs=2 / total)  # ties, in single
    assert 0 < within < total
    said = capsys.readouterr().out
    assert f"calibration: the error of {100 * within / total:.1f} % of {total:,} object pixels is within 2 SD" in said
    assert "for Gaussian errors 95 % would be calibrated" in said


def test_tables_of_samples_have_a_folder_of_their_own(folder, runs):
    (plain,) = evaluate(to_scores(folder, output=""), runs["s0"])
    (several,) = evaluate(to_scores(folder, output="", samples=2), runs["s0"])
    assert several.name == f"{plain.name}-2samples"
    (together,) = evaluate(to_scores(folder, output="", ensemble=[runs["s1"]]), runs["s0"])
    assert together.name == f"{plain.name}-ensemble2"


def test_an_ensemble_is_the_mean_and_sd_over_its_runs(folder, runs, capsys):
    words = [runs[name] for name in ("s0", "s1", "s2")]
    alone = [
        reconstruct(to_images(folder, output=f"{folder.parent}/{k}"), word, [folder]) for k, word in enumerate(words)
    ]
    done = reconstruct(to_images(folder, ensemble=words[1:]), words[0], [folder])
    for name in ("own0.h5", "own1.h5"):
        each = np.stack([images(one.folder / "val" / name).astype(float) for one in alone])
        top = each.max()
        np.testing.assert_allclose(images(done.folder / "val" / name), each.mean(0), rtol=1e-6, atol=1e-7 * top)
        np.testing.assert_allclose(sd_of(done.folder / "val" / name), each.std(0, ddof=1), rtol=1e-5, atol=1e-6 * top)
    made_by = json.loads(attrs(done.folder / "val" / "own0.h5")["options"])["ensemble"]
    assert made_by == [weights_sha256(load_reconstructor(open_run(word)).model) for word in words]
    evaluate(to_scores(folder, ensemble=words[1:]), words[0])
    assert "within 2 SD of 3 reconstructions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("plain", {"samples": 4}, r"--samples 4 draws by dropout, but plain has no dropout \(model\.dropout is 0\)"),
        ("zero-filled", {"samples": 4}, "zero-filled is a method, no network"),
        ("s0", {"samples": 1}, "--samples 1 has no spread; draw 2 or more"),
        ("s0", {"samples": -1}, "samples is -1; it must be at least 0"),
        ("s0", {"samples": 2, "ensemble": ["s1"]}, "--samples and --ensemble are two kinds of spread"),
        ("s0", {"ensemble": ["plain"]}, r"plain differs from .*s0 in model\.dropout \(0\.0, not 0\.2\)"),
        ("s0", {"ensemble": ["s0"]}, r"have one seed \(0\), which says nothing about the spread"),
        ("zero-filled", {"ensemble": ["s0"]}, "--ensemble is of runs, and zero-filled is none"),
        ("s0", {"ensemble": ["zero-filled"]}, "--ensemble is of runs, and zero-filled is none"),
    ],
    ids=str,
)
def test_what_has_no_spread_is_refused_before_any_work(folder, runs, name, changes, message):
    changes = {
        key: [runs.get(word, word) for word in value] if key == "ensemble" else value for key, value in changes.items()
    }
    with pytest.raises(InputError, match=message):
        reconstruct(to_images(folder, **changes), runs.get(name, name), [folder])
    with pytest.raises(InputError, match=message):
        evaluate(to_scores(folder, **changes), runs.get(name, name))
    assert not (folder.parent / "images").exists()
    assert not (folder.parent / "scores").exists()


def test_from_the_command_line(folder, runs, capsys):
    assert (
        main(["reconstruct", runs["s0"], str(folder), "-o", str(folder.parent / "a"), "--samples", "2", "--quiet"]) == 0
    )
    assert sd_of(folder.parent / "a" / "val" / "own0.h5").max() > 0
    words = [runs["s0"], "--data", str(folder), "--mask", "auto", "-o", str(folder.parent / "b")]
    assert main(["evaluate", *words, "--ensemble", runs["s1"], runs["s2"], "--quiet"]) == 0
    assert "within 2 SD of 3 reconstructions" in capsys.readouterr().out
