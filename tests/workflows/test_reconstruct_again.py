"""What `reconstruct` leaves is whole, and is known again by a repeated call."""

import json
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import h5py
import numpy as np
import pytest
from PIL import Image
from reconstructions import by_numpy, config, images, left_over, train_runs, write_files

from mrirecon.config import DataConfig, EvaluateConfig
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.reconstruct import METHODS, ZeroFilled
from mrirecon.tables.methods import Method
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.reconstruct import reconstruct


@pytest.fixture(scope="module")
def runs(small_data, tmp_path_factory):
    return train_runs(small_data, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def folder(tmp_path, volume_writer):
    return write_files(tmp_path / "data", volume_writer)


@pytest.mark.parametrize("formats", [["h5"], ["png"], ["h5", "png"]], ids="-".join)
def test_formats(folder, formats):
    done = reconstruct(config(folder, format=formats), "zero-filled", [folder])
    assert left_over(done.folder) == sorted(f"{name}.{end}" for name in ("full", "own", "other") for end in formats)
    if "png" in formats:
        with Image.open(done.folder / "own.png") as picture:
            assert picture.info["source"] == "own.h5"
            assert picture.info["source_bytes"] == str((folder / "own.h5").stat().st_size)
    assert reconstruct(config(folder, format=formats), "zero-filled", [folder]).n_left == 3


def test_a_picture_is_added_without_touching_the_file(folder):
    done = reconstruct(config(folder), "zero-filled", [folder])
    before = (done.folder / "own.h5").stat().st_mtime_ns
    again = reconstruct(config(folder, format=["h5", "png"]), "zero-filled", [folder])
    assert (again.n_volumes, again.n_left) == (3, 0)
    assert (done.folder / "own.h5").stat().st_mtime_ns == before
    assert (done.folder / "own.png").is_file()


def test_only_what_is_missing_is_made_again(runs, folder):
    done = reconstruct(config(folder), runs["unet"], [folder])
    expected = images(done.folder / "own.h5")
    kept = (done.folder / "full.h5").stat().st_mtime_ns
    (done.folder / "own.h5").unlink()
    again = reconstruct(config(folder), runs["unet"], [folder])
    assert (again.n_volumes, again.n_slices, again.n_left) == (1, 3, 2)
    np.testing.assert_array_equal(images(done.folder / "own.h5"), expected)
    assert (done.folder / "full.h5").stat().st_mtime_ns == kept


def test_images_of_an_evaluation_are_not_taken_for_those_of_reconstruct(folder, tmp_path, volume_writer):
    """The same weights and the same source, but masks that were drawn, or some slices only."""
    volume_writer(tmp_path / "some" / "v.h5")
    for name, slices in (("drawn", []), ("cut", [0, 1])):
        data = DataConfig(str(tmp_path / "some"), mask="random", slices=slices)
        (out,) = evaluate(
            EvaluateConfig(data, split="all", save=True, output=str(tmp_path / name), device="cpu"), "zero-filled"
        )
        place = str(out / "reconstructions")
        with pytest.raises(InputError, match=r"v.h5 is there already, made with mask_draw 0, now none"):
            reconstruct(config(folder, output=place), "zero-filled", [tmp_path / "some"])


def _other_source(folder):
    with h5py.File(folder / "own.h5", "a") as file:
        file.attrs["more"] = "x" * 10_000


def _other_samples(folder):
    """Another scan of the same shape makes a file of the same size."""
    size = (folder / "own.h5").stat().st_size
    with h5py.File(folder / "own.h5", "a") as file:
        file["kspace"][...] = file["kspace"][()] * 1.5
    assert (folder / "own.h5").stat().st_size == size


@pytest.mark.parametrize(
    ("change", "use", "ending", "says"),
    [
        (None, {"precision": "bf16-mixed"}, "h5", "precision fp32, now bf16-mixed"),
        (None, {"bn_stats": "batch"}, "png", "bn_stats running, now batch"),
        (_other_source, {}, "h5", "own.h5 is there already, made with source_bytes"),
        (_other_source, {}, "png", "own.png is there already, made with source_bytes"),
        (_other_samples, {}, "h5", "own.h5 is there already, made with source_sha256"),
        ("complex-normunet", {}, "h5", "weights_sha256"),
        ("zero-filled", {}, "png", "weights_sha256 [0-9a-f]{12}, now none"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.cells(4)
def test_what_another_network_or_source_made_is_replaced_only_when_asked(runs, folder, change, use, ending, says):
    done = reconstruct(config(folder, format=[ending]), runs["unet"], [folder])
    before = {path.name: path.read_bytes() for path in done.folder.iterdir()}
    if callable(change):
        change(folder)
        change = None
    name = runs.get(change or "unet", change)
    with pytest.raises(InputError, match=f"{says}.*--overwrite"):
        reconstruct(config(folder, format=[ending], **use), name, [folder])
    assert {path.name: path.read_bytes() for path in done.folder.iterdir()} == before
    again = reconstruct(config(folder, format=[ending], overwrite=True, **use), name, [folder])
    assert again.n_volumes > 0
    assert reconstruct(config(folder, format=[ending], **use), name, [folder]).n_left == 3


def test_statistics_of_the_batch_belong_to_its_size(runs, folder):
    use = {"bn_stats": "batch", "batch_size": 2}
    reconstruct(config(folder, **use), runs["unet"], [folder])
    assert reconstruct(config(folder, **use), runs["unet"], [folder]).n_left == 3
    with pytest.raises(InputError, match="batch_size 2, now 1"):
        reconstruct(config(folder, **use | {"batch_size": 1}), runs["unet"], [folder])


@dataclass(frozen=True)
class DimmedOptions:
    strength: float = 0.5
    """Factor."""
    iterations: int = 10
    """Of nothing."""


class Dimmed:
    """A method with options."""

    def __init__(self, strength, iterations):
        self.strength = strength

    def __call__(self, sample):
        return sample.image * self.strength


DIMMED = Method("darker", Dimmed, DimmedOptions)


@pytest.mark.parametrize("ending", ["h5", "png"])
def test_options_of_a_method_decide_its_images(folder, monkeypatch, ending):
    use = config(folder, format=[ending])
    monkeypatch.setitem(METHODS, "dimmed", DIMMED)
    done = reconstruct(use, "dimmed", [folder])
    assert reconstruct(replace(use, method={"iterations": 10}), "dimmed", [folder]).n_left == 3
    before = {path.name: path.read_bytes() for path in done.folder.iterdir()}
    use = replace(use, method={"strength": 0.25})
    with pytest.raises(InputError, match=r'made with options none, now {"strength": 0.25}.*--overwrite'):
        reconstruct(use, "dimmed", [folder])
    assert {path.name: path.read_bytes() for path in done.folder.iterdir()} == before
    assert reconstruct(replace(use, overwrite=True), "dimmed", [folder]).n_volumes == 3
    assert reconstruct(use, "dimmed", [folder]).n_left == 3
    use = replace(use, method={"strength": 0.25, "iterations": 20})
    with pytest.raises(InputError, match=r'made with options {"strength": 0.25}, now {"iterations": 20, "strength"'):
        reconstruct(use, "dimmed", [folder])


def _without_options(path):
    """As versions wrote it that did not know options."""
    with h5py.File(path, "a") as file:
        del file.attrs["options"]


def test_files_of_a_version_without_options_are_known_again(runs, folder, monkeypatch):
    monkeypatch.setitem(METHODS, "dimmed", DIMMED)
    for name in ("zero-filled", "dimmed", runs["unet"], runs["complex-normunet"]):
        use = config(folder, output=str(folder.parent / "of" / name.replace("/", "-")))
        done = reconstruct(use, name, [folder])
        for path in done.folder.iterdir():
            _without_options(path)
        assert reconstruct(use, name, [folder]).n_left == 3
    use = config(folder, output=str(folder.parent / "of" / "dimmed"), method={"iterations": 20})
    with pytest.raises(InputError, match=r'made with options none, now {"iterations": 20}'):
        reconstruct(use, "dimmed", [folder])


def test_how_a_network_is_used_is_written_beside_its_weights(runs, folder):
    done = reconstruct(config(folder), runs["complex-normunet"], [folder])
    with h5py.File(done.folder / "own.h5", "a") as file:
        options = json.loads(file.attrs["options"])
        assert options.pop("residual") is True  # which is what a training makes of auto
        assert options == {"name": "normunet", "input": "complex", "channels": 4, "pools": 2, "norm": "batch"}
        file.attrs["options"] = json.dumps(options, sort_keys=True)
    with pytest.raises(InputError, match="own.h5 is there already, made with options"):
        reconstruct(config(folder), runs["complex-normunet"], [folder])


@pytest.mark.parametrize("content", [b"years of work", b""])
@pytest.mark.parametrize("name", ["own.h5", "own.png"])
def test_other_peoples_files_are_replaced_only_when_asked(folder, name, content):
    out = folder.parent / "out"
    out.mkdir()
    (out / name).write_bytes(content)
    use = config(folder, format=["h5", "png"])
    with pytest.raises(InputError, match=f"{name} is there already, not made by mrirecon reconstruct; add --overwrite"):
        reconstruct(use, "zero-filled", [folder])
    assert left_over(out) == [name]
    reconstruct(replace(use, overwrite=True), "zero-filled", [folder])
    assert len(left_over(out)) == 6


def test_kspace_is_never_replaced(folder):
    before = (folder / "own.h5").read_bytes()
    with pytest.raises(InputError, match="holds k-space, which is never replaced"):
        reconstruct(config(folder, output=str(folder), overwrite=True), "zero-filled", [folder])
    assert (folder / "own.h5").read_bytes() == before


def test_a_full_disk_leaves_whole_files_only(folder):
    """A limit on the size of files stands for the disk: 12672 bytes of images fit, 23040 do not."""
    files = [folder / "other.h5", folder / "own.h5"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(WorkFailedError, match=r"^.*out/own.h5 cannot be written: File too large; .*same command$"):
            reconstruct(config(folder), "zero-filled", files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left_over(folder.parent / "out") == ["other.h5"]
    assert reconstruct(config(folder), "zero-filled", files).n_left == 1


def test_images_that_are_not_finite_are_no_result(folder, monkeypatch):
    def diverged(self, sample):
        return sample.image * (np.nan if sample.volume[0] == "own.h5" and int(sample.slice_idx[0]) == 1 else 1)

    monkeypatch.setattr(ZeroFilled, "__call__", diverged)
    with pytest.raises(InputError, match=r"zero-filled gives NaN or infinity in slice 1 of own.h5"):
        reconstruct(config(folder), "zero-filled", [folder])
    assert "own.h5" not in left_over(folder.parent / "out")


SLOW = """
import sys, time
from mrirecon.classical import METHODS, ZeroFilled
def slow(self, sample):
    time.sleep(0.2)
    return sample.image
ZeroFilled.__call__ = slow
from mrirecon.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 2)], ids=str)
@pytest.mark.cells(1)
def test_a_signal_leaves_whole_files_and_the_same_words_go_on(tmp_path, volume_writer, number, workers):
    for i in range(4):
        volume_writer(tmp_path / "data" / f"{i}.h5", n_slices=5, matrix=(16, 16), seed=i)
    out = tmp_path / "out"
    words = ["reconstruct", "zero-filled", str(tmp_path / "data"), "-o", str(out), "--workers", str(workers)]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *words], stderr=subprocess.PIPE, text=True)
    while not (out / "0.h5").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    error = process.communicate(timeout=30)[1]
    assert process.returncode == 75
    assert f"stopped by {number.name} after 1 of 4 volumes, which are kept; go on with the same command" in error
    assert left_over(out) == ["0.h5"]
    done = reconstruct(config(tmp_path / "data"), "zero-filled", [tmp_path / "data"])
    assert (done.n_volumes, done.n_left) == (3, 1)
    for i in range(4):
        np.testing.assert_allclose(
            images(out / f"{i}.h5"), by_numpy(tmp_path / "data" / f"{i}.h5"), rtol=1e-4, atol=1e-6
        )


def test_a_signal_with_the_last_slice_stops_nothing(folder, monkeypatch):
    def arriving(self, sample):
        if sample.volume[0] == "own.h5" and int(sample.slice_idx[0]) == 2:
            signal.raise_signal(signal.SIGTERM)
        return sample.image

    monkeypatch.setattr(ZeroFilled, "__call__", arriving)
    before = signal.getsignal(signal.SIGTERM)
    assert reconstruct(config(folder), "zero-filled", [folder]).n_volumes == 3
    assert signal.getsignal(signal.SIGTERM) == before
