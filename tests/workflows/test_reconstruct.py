"""`reconstruct` equals the network or the inverse FFT applied by hand, needs no reference."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

import fastmri.evaluate
import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from reconstructions import COLUMNS, MODELS, attrs, by_numpy, config, images, train_runs, write_files
from safetensors.numpy import load_file

import mrirecon
from mrirecon import configfile
from mrirecon.config import (
    DataConfig,
    EvaluateConfig,
    ScoreConfig,
    TrainConfig,
)
from mrirecon.data import SliceDataset, Volume, mask_id, to_image
from mrirecon.data.mask_choice import stored_mask
from mrirecon.data.transforms import to_complex_image
from mrirecon.errors import InputError
from mrirecon.evaluation.results import read_results
from mrirecon.runs import open_run
from mrirecon.training.build import load_reconstructor
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.reconstruct import reconstruct
from mrirecon.workflows.score import score


@pytest.fixture(scope="module")
def runs(small_data, tmp_path_factory):
    return train_runs(small_data, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def folder(tmp_path, volume_writer):
    return write_files(tmp_path / "data", volume_writer)


@pytest.mark.parametrize("changes", [{}, {"batch_size": 2}, {"workers": 2}], ids=str)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_zero_filled_equals_numpy(folder, changes):
    done = reconstruct(config(folder, **changes), "zero-filled", [folder])
    assert (done.n_volumes, done.n_slices, done.n_left) == (3, 8, 0)
    for name in ("full.h5", "own.h5", "other.h5"):
        expected = by_numpy(folder / name)
        found = images(done.folder / name)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_a_files_own_mask_is_applied_once_more(folder):
    """K-space that is not zero where the mask says so: what was not to be seen is not seen."""
    with h5py.File(folder / "own.h5", "a") as file:
        file["kspace"][...] += 0.1
    done = reconstruct(config(folder), "zero-filled", [folder / "own.h5"])
    expected = by_numpy(folder / "own.h5")
    np.testing.assert_allclose(images(done.folder / "own.h5"), expected, rtol=1e-4, atol=1e-6 * expected.max())


@pytest.mark.parametrize("kind", MODELS)
def test_a_run_equals_its_network_applied_by_hand(runs, folder, kind):
    done = reconstruct(config(folder), runs[kind], [folder])
    module = load_reconstructor(open_run(runs[kind]))
    transform = {"magnitude": to_image, "complex": to_complex_image}[MODELS[kind].input]
    dataset = SliceDataset(folder, mask=None, transform=transform)
    found = {name: images(done.folder / name) for name in ("full.h5", "own.h5", "other.h5")}
    with torch.no_grad():
        for sample in torch.utils.data.DataLoader(dataset, batch_size=1):
            image = module(sample)[0].numpy()
            np.testing.assert_array_equal(found[sample.volume[0]][int(sample.slice_idx[0])], image)


@pytest.mark.parametrize(("kind", "bn_stats"), [("unet", "recalibrated"), ("complex-normunet", "running")])
def test_equals_evaluate_on_files_with_their_own_mask(runs, tmp_path, volume_writer, kind, bn_stats):
    """Two accelerations; and reconstruct does not look at the references."""
    narrow = np.zeros(40, np.uint8)
    narrow[::8] = narrow[18:22] = 1
    for i, columns in enumerate((COLUMNS, narrow)):
        volume_writer(tmp_path / "data" / "val" / f"{i}.h5", mask=columns, seed=i, attrs={"acceleration": 4 * (i + 1)})
    use = {"device": "cpu", "threads": 1, "bn_stats": bn_stats}
    folders = evaluate(
        EvaluateConfig(DataConfig(str(tmp_path / "data")), save=True, output=str(tmp_path / "scores"), **use),
        runs[kind],
    )
    (scores,) = folders
    done = reconstruct(config(tmp_path / "data", **use), runs[kind], [tmp_path / "data"])
    for i, result in enumerate(read_results(scores / "volumes.csv")):
        expected = images(scores / "reconstructions" / "val" / f"{i}.h5")
        np.testing.assert_array_equal(images(done.folder / "val" / f"{i}.h5"), expected)
        made = attrs(done.folder / "val" / f"{i}.h5")
        assert (result.acceleration, made["mask"]) == (4 * (i + 1), "own")
        assert result.acceleration_true == pytest.approx(made["acceleration_true"])


def test_what_evaluate_saves_says_what_reconstruct_would_say(runs, tmp_path, volume_writer):
    """Of a file with its own mask all of it; of a drawn mask what was drawn; both go by the row of volumes.csv."""
    data = tmp_path / "data"
    volume_writer(data / "own.h5", mask=COLUMNS, seed=1, attrs={"acceleration": 4})
    volume_writer(data / "drawn.h5", seed=2)
    use = {"device": "cpu", "threads": 1, "bn_stats": "batch", "batch_size": 2}
    folders = evaluate(
        EvaluateConfig(
            DataConfig(str(data), mask="auto"), split="all", save=True, output=str(tmp_path / "scores"), **use
        ),
        runs["unet"],
    )
    done = reconstruct(config(data, **use), runs["unet"], [data])
    for out, name in zip(folders, ("drawn.h5", "own.h5"), strict=True):
        (row,) = read_results(out / "volumes.csv")
        saved, made = attrs(out / "reconstructions" / name), attrs(done.folder / name)
        of_masks = ("mask", "mask_id", "acceleration_true")
        assert {key: saved[key] for key in made if key not in of_masks} == {
            key: value for key, value in made.items() if key not in of_masks
        }
        assert [saved[key] for key in (*of_masks, "acceleration", "mask_draw", "protocol")] == [
            *(getattr(row, key) for key in of_masks),
            row.acceleration,
            0,
            row.protocol,
        ]
        assert (saved["mask_id"] == made["mask_id"]) == (name == "own.h5")


def test_fastmri_and_score_read_them(tmp_path, volume_writer):
    for i in range(2):
        volume_writer(tmp_path / "data" / f"v{i}.h5", matrix=(40, 40), mask=COLUMNS, seed=i)
    done = reconstruct(config(tmp_path / "data"), "zero-filled", [tmp_path / "data"])
    arguments = argparse.Namespace(
        target_path=tmp_path / "data",
        predictions_path=done.folder,
        challenge="multicoil",
        acceleration=None,
        acquisition=None,
    )
    theirs = fastmri.evaluate.evaluate(arguments, "reconstruction_rss").means()
    out = score(ScoreConfig(output=str(tmp_path / "scores")), str(done.folder), str(tmp_path / "data"))
    ours = json.loads((out / "summary.json").read_text())["overall"]
    for name in ("ssim", "psnr", "nmse"):
        assert ours[name]["mean"] == pytest.approx(np.squeeze(theirs[name.upper()]), rel=1e-5)


def _samples_sha256(path):
    """Mask, then the first, middle and last slice, as complex64."""
    with h5py.File(path) as file:
        slices = file["kspace"][()].astype(np.complex64)
        digest = sha256(file["mask"][()].astype(bool).tobytes())
    for i in sorted({0, len(slices) // 2, len(slices) - 1}):
        digest.update(slices[i].tobytes())
    return digest.hexdigest()


def test_what_a_file_says_of_itself(runs, folder):
    done = reconstruct(config(folder), runs["unet"], [folder])
    facts = attrs(done.folder / "own.h5")
    digest = sha256()
    for name, value in sorted(load_file(open_run(runs["unet"]).weights).items()):
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode() + value.tobytes())
    assert facts == {
        "reconstructor": "unet",
        "checkpoint": "best",
        "weights_sha256": digest.hexdigest(),
        "options": '{"channels": 4, "norm": "batch", "pools": 2, "residual": true}',
        "source": "own.h5",
        "source_bytes": (folder / "own.h5").stat().st_size,
        "source_sha256": _samples_sha256(folder / "own.h5"),
        "mask": "own",
        "mask_id": sha256(COLUMNS.tobytes()).hexdigest()[:12],
        "acceleration_true": 40 / COLUMNS.sum(),
        "mrirecon": mrirecon.__version__,
        "bn_stats": "running",
        "precision": "fp32",
        "batch_size": 1,
    }
    facts = attrs(done.folder / "full.h5")
    assert (facts["mask"], facts["acceleration_true"]) == ("none", 1)


def test_names(tmp_path, volume_writer):
    """Relative to a folder, bare for a file; a file and a folder go together."""
    for name in ("a/val/v.h5", "a/multicoil_test/v.h5", "b/w.h5", "c/v.h5", "c/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix == ".txt" else volume_writer(path, n_slices=1, matrix=(16, 16))
    use = config(tmp_path / "a")
    done = reconstruct(use, "zero-filled", [tmp_path / "a", str(tmp_path / "b" / "w.h5"), tmp_path / "c"])
    found = sorted(path.relative_to(done.folder).as_posix() for path in done.folder.rglob("*.h5"))
    assert found == ["multicoil_test/v.h5", "v.h5", "val/v.h5", "w.h5"]
    assert attrs(done.folder / "val" / "v.h5")["source"] == "val/v.h5"
    with pytest.raises(InputError, match=r"val/v.h5 and .*c/v.h5 are both called v.h5"):
        reconstruct(use, "zero-filled", [tmp_path / "a" / "val", tmp_path / "c" / "v.h5"])


def test_references_are_not_looked_at(folder):
    """Neither NaN in a reference nor one of zeros is in the way of an image."""
    expected = by_numpy(folder / "other.h5")
    with h5py.File(folder / "other.h5", "a") as file:
        file["reconstruction_esc"][0] = np.nan
        file["reconstruction_esc"][1] = 0
    done = reconstruct(config(folder), "zero-filled", [folder / "other.h5"])
    np.testing.assert_allclose(images(done.folder / "other.h5"), expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_all_files_are_checked_before_work(folder, runs):
    with h5py.File(folder / "own.h5", "a") as file:
        file["kspace"][1, 0, 3, 3] = np.nan
    with h5py.File(folder / "full.h5", "a") as file:
        file["kspace"][2] = np.inf
    with pytest.raises(InputError) as error:
        reconstruct(config(folder), runs["unet"], [folder])
    lines = str(error.value).splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "full.h5: kspace holds NaN or infinity in slice 2",
        "own.h5: kspace holds NaN or infinity in slice 1",
    ]
    assert not (folder.parent / "out").exists()
    reconstruct(config(folder), runs["unet"], [folder / "other.h5"])  # the sound one alone


def test_images_too_small_for_the_network(runs, folder, volume_writer):
    """A NormUNet pads to multiples of 16 first; a U-Net does not."""
    volume_writer(folder / "small.h5", matrix=(7, 40), target=False)
    with pytest.raises(InputError, match=r"^small.h5: images of 7 x 40 pixels are too small: 2 pools need 8 x 8"):
        reconstruct(config(folder), runs["unet"], [folder])
    assert not (folder.parent / "out").exists()
    assert reconstruct(config(folder), runs["complex-normunet"], [folder]).n_volumes == 4


def test_the_training_data_that_recalibration_needs(runs, folder, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(runs["unet"], moved)
    trained = configfile.load(TrainConfig, moved / "config.yaml")
    configfile.save(replace(trained, data=replace(trained.data, path="/gone")), moved / "config.yaml")
    with pytest.raises(InputError, match="needs the training data, which are not at /gone any more"):
        reconstruct(config(folder, bn_stats="recalibrated"), str(moved), [folder])
    assert reconstruct(config(folder), str(moved), [folder]).n_volumes == 3


@pytest.mark.parametrize(
    ("changes", "name", "files", "says"),
    [
        ({"output": ""}, "zero-filled", ["{}"], "no output folder given"),
        ({"format": ["jpg"]}, "zero-filled", ["{}"], "unknown format 'jpg'"),
        ({"format": []}, "zero-filled", ["{}"], "--format is empty"),
        ({"batch_size": 0}, "zero-filled", ["{}"], "batch_size is 0; it must be at least 1"),
        ({"workers": -1}, "zero-filled", ["{}"], "workers is -1; it must be at least 0"),
        ({"threads": -1}, "zero-filled", ["{}"], "threads is -1; it must be at least 0"),
        ({"device": "tpu"}, "zero-filled", ["{}"], "unknown device 'tpu'"),
        ({"precision": "fp16"}, "zero-filled", ["{}"], "unknown precision 'fp16'"),
        ({"check": "no"}, "zero-filled", ["{}"], "unknown check 'no'"),
        ({"output": "{}/own.h5/out"}, "zero-filled", ["{}"], "own.h5 is not a folder; choose another --output"),
        ({}, "zero-fild", ["{}"], "did you mean 'zero-filled'"),
        ({}, "zero-filled", [], "no files given"),
        ({}, "zero-filled", ["{}/nothing.h5"], "there is no file or folder"),
        ({}, "zero-filled", ["{}/notes.txt"], "notes.txt does not end in .h5"),
        ({}, "zero-filled", ["{}/empty"], "no .h5 file in"),
        ({}, "zero-filled", ["{}/both"], "has both .h5 files and split folders"),
        ({}, "zero-filled", ["{}/notes.h5"], "notes.h5: is not an HDF5 file"),
        ({}, "{}", ["{}"], "is not a run folder"),
    ],
)
def test_wrong_calls_say_what_is_wrong_and_write_nothing(folder, changes, name, files, says):
    (folder / "notes.txt").write_text("hello")
    (folder / "empty").mkdir()
    (folder / "both" / "val").mkdir(parents=True)
    (folder / "both" / "a.h5").touch()
    if files == ["{}/notes.h5"]:
        (folder / "notes.h5").write_text("hello")
    before = sorted(folder.parent.rglob("*"))
    changes = {key: str(v).format(folder) if key == "output" else v for key, v in changes.items()}
    with pytest.raises(InputError, match=says):
        reconstruct(config(folder, **changes), name.format(folder), [file.format(folder) for file in files])
    assert sorted(folder.parent.rglob("*")) == before


def test_a_folder_without_permission(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InputError, match=f"no permission to write to {folder.parent}; choose another --output"):
        reconstruct(config(folder), "zero-filled", [folder])


MEMORY = """
import sys
from pathlib import Path
from mrirecon import progress
from mrirecon.config import ReconstructConfig
from mrirecon.workflows.reconstruct import reconstruct
progress.quiet = True
for n in (2, 12):
    files = [f"{sys.argv[1]}/{i}.h5" for i in range(n)]
    reconstruct(ReconstructConfig(output=f"{sys.argv[1]}/out{n}", device="cpu", threads=1), "zero-filled", files)
    lines = Path("/proc/self/status").read_text().splitlines()
    print(*(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))  # getrusage tells the parent's
"""


def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path, volume_writer):
    """Twelve volumes of 8 MiB of k-space and 4 MiB of images each: their peak is that of two."""
    first = volume_writer(tmp_path / "0.h5", n_slices=64, n_coils=1, matrix=(128, 128), oversampling=1, target=False)
    for i in range(1, 12):
        shutil.copy(first, tmp_path / f"{i}.h5")
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)
    two, twelve = map(float, done.stdout.split())
    print(f"peak: {two:.0f} MiB with 2 volumes, {twelve:.0f} MiB with 12")
    assert twelve - two < 20


def test_stored_masks(folder):
    full, own = Volume(folder / "full.h5"), Volume(folder / "own.h5")
    assert stored_mask(own).columns.tolist() == COLUMNS.astype(bool).tolist()
    assert stored_mask(full).columns.all()
    assert (stored_mask(full).acceleration, stored_mask(full).acceleration_true, stored_mask(full).n_center) == (
        1,
        1,
        40,
    )
    assert mask_id(stored_mask(full)) == sha256(bytes([1] * 40)).hexdigest()[:12]


@pytest.mark.realdata
def test_real_files(shared_data, tmp_path):
    """Single coil, multi-coil, oversampled and undersampled by zeros, in one call."""
    folders = [shared_data / "multicoil", shared_data / "singlecoil", shared_data / "multicoil_undersampled"]
    use = config(tmp_path / "data", format=["h5", "png"])
    done = reconstruct(use, "zero-filled", folders)
    sources = [path for folder in folders for path in sorted(folder.glob("*.h5"))]
    assert (done.n_volumes, done.n_slices) == (9, 30)
    for path in sources:
        expected = by_numpy(path)
        np.testing.assert_allclose(images(done.folder / path.name), expected, rtol=2e-4, atol=1e-5 * expected.max())
        with Image.open(done.folder / f"{path.stem}.png") as picture:
            assert picture.size[0] > 400
        made = attrs(done.folder / path.name)
        if path.stem == "brain_8ch_poisson":  # 5,148 of 230 x 180 positions hold samples, in 229 rows
            assert made["mask"] == "own, of rows and columns"
            assert made["acceleration_true"] == pytest.approx(229 * 180 / 5148)
        else:
            assert (made["mask"], made["acceleration_true"]) == ("none", 1)
        if (reference := h5py.File(path).get("reconstruction_rss")) is not None:
            assert images(done.folder / path.name).shape == reference.shape
    assert reconstruct(use, "zero-filled", folders).n_left == 9
