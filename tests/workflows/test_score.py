"""`score` prints what fastMRI's own command prints, and refuses what it cannot compare."""

import json
import math
import re
import subprocess
import sys
import tracemalloc

import fastmri
import h5py
import numpy as np
import pytest
from fastmri import evaluate as fastmri_evaluate
from fastmri.data import transforms
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mrirecon.config import DataConfig, EvaluateConfig, ScoreConfig
from mrirecon.errors import InputError
from mrirecon.evaluation.results import read_results
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.score import score

# fastMRI's command cannot print its SSIM, an array of one value, unless runstats is compiled and makes it a number.
COMMAND = """
import runpy, numpy, runstats
push = runstats.Statistics.push
runstats.Statistics.push = lambda self, value: push(self, float(numpy.squeeze(value)))
runpy.run_module("fastmri.evaluate", run_name="__main__", alter_sys=True)
"""
KEYS = {"multicoil": "reconstruction_rss", "singlecoil": "reconstruction_esc"}


def fastmri_prints(targets, predictions, challenge):
    words = ["--target-path", targets, "--predictions-path", predictions, "--challenge", challenge]
    done = subprocess.run([sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(path, attrs=None, **datasets):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in datasets.items():
            file[key] = values
        file.attrs.update(attrs or {})


def foreign(root, *, challenge="multicoil", n=4, shape=(3, 44, 32), wider=0):
    """References without k-space, and predictions that fastMRI wrote, `wider` by so many pixels on each side."""
    rng, found = np.random.default_rng(0), {}
    for i in range(n):
        y, x = np.meshgrid(*(np.linspace(-1, 1, size + 2 * wider) for size in shape[1:]), indexing="ij")
        rings = [1 + np.cos((4 + i + k) * np.hypot(x, y)) for k in range(shape[0])]
        large = (np.array(rings) + 0.1 * rng.random((shape[0], *y.shape))).astype(np.float32) * 10.0 ** (i - 4)
        inside = (..., *(slice(wider, size + wider) for size in shape[1:]))
        about = {"acquisition": ("AXT1", "AXT2")[i % 2], "patient_id": f"p{i}"}
        write(root / "targets" / f"v{i}.h5", about, **{KEYS[challenge]: large[inside]})
        found[f"v{i}.h5"] = (large * (0.9 + 0.02 * i)).astype(np.float32)
    fastmri.save_reconstructions(found, root / "predictions")
    return root / "predictions", root / "targets"


def run(predictions, targets, **changes):
    config = ScoreConfig(**{"output": str(predictions.parent / "out"), **changes})
    return score(config, str(predictions), str(targets))


def stored(path, key):
    with h5py.File(path) as file:
        return file[key][()]


@pytest.mark.parametrize("wider", [0, 3])
@pytest.mark.parametrize("challenge", KEYS)
@pytest.mark.cells(2)
def test_square_crop_prints_what_fastmri_prints(tmp_path, capsys, challenge, wider):
    predictions, targets = foreign(tmp_path, challenge=challenge, wider=wider)
    run(predictions, targets, crop="square")
    label, line = capsys.readouterr().out.splitlines()[-2:]
    assert "as `python -m fastmri.evaluate` prints it" in label
    assert line == fastmri_prints(targets, predictions, challenge)


def test_every_mask_draw_that_evaluate_saved_is_scored_as_it_was(tmp_path, volume_writer):
    for i in range(2):
        volume_writer(tmp_path / "data" / "val" / f"v{i}.h5", seed=i)
    data = DataConfig(path=str(tmp_path / "data"), mask="random")
    (evaluated,) = evaluate(
        EvaluateConfig(data=data, save=True, mask_draws=3, output=str(tmp_path / "evaluated")), "zero-filled"
    )
    rows = {(r.mask_draw, r.volume): r for r in read_results(evaluated / "volumes.csv")}
    folders = sorted((evaluated / "reconstructions").iterdir())
    assert [folder.name for folder in folders] == ["draw-0", "draw-1", "draw-2"]
    for draw, folder in enumerate(folders):
        out = run(folder / "val", tmp_path / "data" / "val", output=str(tmp_path / f"scores{draw}"))
        for ours in read_results(out / "volumes.csv"):
            theirs = rows[draw, f"val/{ours.volume}"]
            assert (ours.ssim, ours.psnr, ours.nmse) == (theirs.ssim, theirs.psnr, theirs.nmse)
    assert len({(r.ssim, r.mask_id) for r in rows.values()}) == 6


@pytest.mark.parametrize(("challenge", "n_coils"), [("multicoil", 3), ("singlecoil", 1)])
def test_images_that_evaluate_saved_print_what_fastmri_prints(tmp_path, capsys, volume_writer, challenge, n_coils):
    for i in range(4):
        volume_writer(tmp_path / "data" / f"v{i}.h5", matrix=(40, 40), n_coils=n_coils, seed=i, scale=1e-5)
    config = EvaluateConfig(
        data=DataConfig(path=str(tmp_path / "data"), mask="random"),
        split="all",
        save=True,
        output=str(tmp_path / "evaluated"),
    )
    (evaluated,) = evaluate(config, "zero-filled")
    out = run(evaluated / "reconstructions", tmp_path / "data")
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == fastmri_prints(tmp_path / "data", evaluated / "reconstructions", challenge)
    for ours, theirs in zip(*(read_results(path / "volumes.csv") for path in (out, evaluated)), strict=True):
        same = ("volume", "patient", "origin", "acquisition", "n_slices", "protocol", "ssim", "psnr", "nmse")
        assert [getattr(ours, name) for name in same] == [getattr(theirs, name) for name in same]


def test_each_volume_equals_scikit_image_on_the_full_grid(tmp_path, capsys):
    predictions, targets = foreign(tmp_path)
    results = read_results(run(predictions, targets) / "volumes.csv")
    assert [r.volume for r in results] == [f"v{i}.h5" for i in range(4)]
    for r in results:
        target, image = (
            stored(folder / r.volume, key).astype(float)
            for folder, key in ((targets, "reconstruction_rss"), (predictions, "reconstruction"))
        )
        ssim = [structural_similarity(x, y, data_range=target.max()) for x, y in zip(target, image, strict=True)]
        assert r.ssim == pytest.approx(np.mean(ssim), rel=1e-9)
        assert r.psnr == pytest.approx(peak_signal_noise_ratio(target, image, data_range=target.max()), rel=1e-9)
        assert r.nmse == pytest.approx(np.sum((target - image) ** 2) / np.sum(target**2), rel=1e-9)
        assert (r.protocol, r.mask, r.n_slices, r.patient) == ("fastmri-v1", "undeclared", 3, f"p{r.volume[1]}")
    assert "fastMRI's own command scores --crop square" in capsys.readouterr().out


def test_each_square_equals_fastmri(tmp_path):
    """The data range is that of the square: the brightest pixel lies outside of it."""
    predictions, targets = foreign(tmp_path, n=1)
    with h5py.File(targets / "v0.h5", "a") as file:
        file["reconstruction_rss"][1, 0, 5] = 1.0
    (r,) = read_results(run(predictions, targets, crop="square") / "volumes.csv")
    target, image = (
        transforms.center_crop(stored(folder / "v0.h5", key).astype(float), (32, 32))
        for folder, key in ((targets, "reconstruction_rss"), (predictions, "reconstruction"))
    )
    assert target.max() < 1e-2
    for name in ("ssim", "psnr", "nmse"):
        assert getattr(r, name) == pytest.approx(float(np.squeeze(getattr(fastmri_evaluate, name)(target, image))))
    assert r.protocol == "fastmri-v1+square"


def test_bad_files_are_counted_as_files_with_their_masks(tmp_path):
    predictions, targets = foreign(tmp_path, n=3)
    for i in range(3):
        with h5py.File(targets / f"v{i}.h5", "r+") as file:
            file["object_mask"] = np.ones(file["reconstruction_rss"].shape, np.uint8)
        with h5py.File(predictions / f"v{i}.h5", "r+") as file:
            file["reconstruction"][1] = np.nan
    with pytest.raises(InputError, match=r"^prediction v0\.h5: .* \(3 of 6 files are bad\)$"):
        run(predictions, targets)


def test_what_is_not_known_is_nan_null_and_undeclared(tmp_path, capsys):
    predictions, targets = foreign(tmp_path)
    out = run(predictions, targets)
    text = capsys.readouterr().out
    assert "undeclared mask, undeclared acceleration (true -), protocol fastmri-v1, per volume" in text
    assert "nan" not in text.replace(str(out), "")
    assert "zf" not in text
    assert "paired" not in text
    (r, *_) = read_results(out / "volumes.csv")
    for name in ("acceleration", "acceleration_true", "zf_ssim", "zf_psnr", "zf_nmse", "seconds"):
        assert math.isnan(getattr(r, name)), name
    summary = json.loads((out / "summary.json").read_text())
    assert summary["acceleration"] is None
    assert summary["overall"]["acceleration_true"] is None
    assert set(summary["overall"]["zf_ssim"].values()) == {None}
    assert summary["by_acceleration"]["undeclared"]["n_volumes"] == 4
    assert (summary["data"], summary["predictions"]) == (str(targets), str(predictions))
    assert (summary["mask"], summary["reference"]) == ("undeclared", "reconstruction_rss")
    assert summary["fastmri_evaluate"] in text
    assert summary["provenance"]["packages"]["torch"]


def test_declarations_stand_in_the_table_and_the_file_names(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predictions, targets = foreign(tmp_path)
    assert run(predictions, targets, output="").as_posix() == (
        "runs/predictions/evaluation/targets-all-undeclared-undeclared"
    )
    out = run(predictions, targets, output="", mask="random", acceleration=4.0, name="varnet")
    assert out.as_posix() == "runs/varnet/evaluation/targets-all-random-4x"
    assert "varnet, random mask, 4x (true -)" in capsys.readouterr().out
    assert {(r.acceleration, r.mask, r.reconstructor) for r in read_results(out / "volumes.csv")} == {
        (4, "random", "varnet")
    }


def test_an_attribute_declares_nothing_and_is_contradicted_aloud(tmp_path, capsys):
    predictions, targets = foreign(tmp_path)
    with h5py.File(targets / "v2.h5", "a") as file:
        file.attrs["acceleration"] = 8
    out = run(predictions, targets)
    assert all(math.isnan(r.acceleration) for r in read_results(out / "volumes.csv"))
    out = run(predictions, targets, acceleration=4.0, overwrite=True)
    assert {r.acceleration for r in read_results(out / "volumes.csv")} == {4}
    assert "v2.h5 says acceleration 8, the table 4 as declared (1 of 4 targets)" in capsys.readouterr().err


def test_only_the_wanted_acquisitions_need_predictions(tmp_path, capsys):
    predictions, targets = foreign(tmp_path)
    (predictions / "v0.h5").unlink()
    out = run(predictions, targets, acquisition=["AXT2"])
    assert [r.volume for r in read_results(out / "volumes.csv")] == ["v1.h5", "v3.h5"]
    assert "have no target" not in capsys.readouterr().err


def test_one_volume_has_no_deviation(tmp_path, capsys):
    """fastMRI's command divides by zero there."""
    predictions, targets = foreign(tmp_path, n=1)
    run(predictions, targets)
    assert capsys.readouterr().out.splitlines()[-1].count("+/- -") == 4


@pytest.mark.parametrize("names", [["a/val/v.h5"], ["a/v.h5"]], ids=["relative name", "bare name"])
def test_targets_in_split_folders(tmp_path, names):
    _, targets = foreign(tmp_path, n=1)
    (targets / "val").mkdir()
    (targets / "v0.h5").rename(targets / "val" / "v.h5")
    write(tmp_path / names[0], reconstruction=stored(targets / "val" / "v.h5", "reconstruction_rss"))
    (r,) = read_results(run(tmp_path / "a", targets) / "volumes.csv")
    assert (r.volume, r.ssim, r.psnr) == ("val/v.h5", pytest.approx(1), math.inf)


def test_a_bare_name_of_two_targets_is_not_guessed(tmp_path):
    predictions, targets = foreign(tmp_path, n=1)
    for split in ("val", "test"):
        write(targets / split / "v0.h5", reconstruction_rss=stored(targets / "v0.h5", "reconstruction_rss"))
    (targets / "v0.h5").unlink()
    with pytest.raises(InputError, match=r"has no val/v0.h5 \(2 of 2 targets .* score one split"):
        run(predictions, targets)


def test_notes_go_to_stderr(tmp_path, capsys):
    predictions, targets = foreign(tmp_path)
    write(predictions / "more" / "w.h5", reconstruction=np.ones((1, 9, 9)))
    with h5py.File(targets / "v1.h5", "a") as file:
        file["reconstruction_esc"] = file["reconstruction_rss"][()]
    run(predictions, targets)
    err = capsys.readouterr().err
    assert "note: 1 files have no target and are not scored (more/w.h5)\n" in err
    assert "note: v1.h5 has references of both kinds and no k-space; reconstruction_rss is used\n" in err


def edit_prediction(change):
    def apply(predictions, targets):
        path = predictions / "v1.h5"
        write(path, reconstruction=change(stored(path, "reconstruction")))

    return apply


def with_value(value):
    def apply(predictions, targets):
        with h5py.File(predictions / "v1.h5", "a") as file:
            file["reconstruction"][2, 3, 4] = value

    return apply


def edit_targets(change):
    def apply(predictions, targets):
        for path in targets.iterdir():
            write(path, reconstruction_rss=change(stored(path, "reconstruction_rss")))
            write(predictions / path.name, reconstruction=change(stored(predictions / path.name, "reconstruction")))

    return apply


def nothing(predictions, targets):
    pass


def remove(*names):
    return lambda predictions, targets: [(predictions / name).unlink() for name in names]


FAULTS = {
    "missing": (remove("v1.h5", "v3.h5"), {}, r"has no v1.h5 \(2 of 4 targets have no prediction\)"),
    "wider": (
        edit_prediction(lambda x: np.pad(x, ((0, 0), (3, 3), (3, 3)))),
        {},
        r"^prediction v1.h5: has shape \(3, 50, 38\), its target \(3, 44, 32\) .*add --crop square",
    ),
    "smaller": (edit_prediction(lambda x: x[:, 8:]), {}, r"\(3, 36, 32\), its target \(3, 44, 32\).*--crop square"),
    "narrower": (edit_prediction(lambda x: x[..., 1:]), {}, r"\(3, 44, 31\).*crop or pad the prediction"),
    "too small for the square": (
        edit_prediction(lambda x: x[:, 13:]),
        {"crop": "square"},
        r"\(3, 31, 32\).*crop or pad",
    ),
    "axes swapped": (edit_prediction(lambda x: x.swapaxes(1, 2)), {}, r"\(3, 32, 44\).*write numpy's swapaxes\(1, 2\)"),
    "slices last": (edit_prediction(lambda x: np.moveaxis(x, 0, 2)), {}, r"\(44, 32, 3\).*moveaxis\(x, 2, 0\)"),
    "fewer slices": (edit_prediction(lambda x: x[1:]), {"crop": "square"}, r"\(2, 44, 32\), its target \(3, 44, 32\)"),
    "nan": (with_value(np.nan), {}, "^prediction v1.h5: reconstruction holds NaN or infinity in slice 2"),
    "infinity": (with_value(np.inf), {"crop": "square"}, "^prediction v1.h5: .* slice 2"),
    "complex": (edit_prediction(lambda x: x.astype("c8")), {}, "^prediction v1.h5: .*give the magnitude"),
    "lying target": (edit_targets(lambda x: x[:, 20:]), {"crop": "square"}, "^target v0.h5: 24 x 32 pixels.*--crop"),
    "black target": (edit_targets(lambda x: 0 * x), {}, "^target v0.h5: reconstruction_rss has no positive value"),
    "tiny target": (edit_targets(lambda x: x[:, :6]), {}, "^target v0.h5: 6 x 32 pixels are too small"),
    "crop": (nothing, {"crop": "sqare"}, "unknown crop 'sqare'; did you mean 'square'"),
    "mask": (nothing, {"mask": "ranodm"}, "unknown mask 'ranodm'; did you mean 'random'"),
    "acceleration": (nothing, {"acceleration": 0.5}, "--acceleration 0.5; it must be at least 1"),
    "seed": (nothing, {"seed": -1}, "seed is -1; it must be at least 0"),
    "name": (nothing, {"name": "../up"}, "--name '../up'"),
    "acquisition": (nothing, {"acquisition": ["AXT3"]}, "unknown acquisition 'AXT3'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_scored_is_named_in_one_line_and_nothing_is_written(tmp_path, fault, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the default place of the tables is below the current folder
    spoil, changes, says = FAULTS[fault]
    predictions, targets = foreign(tmp_path)
    spoil(predictions, targets)
    with pytest.raises(InputError, match=says) as caught:
        run(predictions, targets, output="", **changes)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions", "targets"]


def test_no_folder_of_predictions(tmp_path):
    _, targets = foreign(tmp_path)
    with pytest.raises(InputError, match="no folder .*nowhere; PREDICTIONS is"):
        run(tmp_path / "nowhere", targets)


def test_results_are_replaced_only_when_asked(tmp_path):
    predictions, targets = foreign(tmp_path)
    out = run(predictions, targets)
    with pytest.raises(InputError, match="--overwrite"):
        run(predictions, targets, crop="square")
    run(predictions, targets, crop="square", overwrite=True)
    assert {r.protocol for r in read_results(out / "volumes.csv")} == {"fastmri-v1+square"}


def test_memory_does_not_grow_with_slices_and_volumes(tmp_path):
    def peak(name, n, n_slices):
        predictions, targets = foreign(tmp_path / name, n=n, shape=(n_slices, 80, 80))
        run(predictions, targets)  # what is loaded on first use does not count
        tracemalloc.start()
        run(predictions, targets, overwrite=True)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    a_volume = 40 * 80 * 80 * 8
    assert peak("large", 3, 40) - peak("small", 1, 2) < a_volume / 4


@pytest.mark.realdata
@pytest.mark.parametrize("challenge", KEYS)
def test_real_files_print_what_fastmri_prints(shared_data, tmp_path, challenge, capsys):
    """Smoothed references in the place of reconstructions; some of the files are not square."""
    for path in (shared_data / challenge).glob("*.h5"):
        target = stored(path, KEYS[challenge])
        write(tmp_path / "predictions" / path.name, reconstruction=(target + np.roll(target, 1, axis=-1)) / 2)
    run(tmp_path / "predictions", shared_data / challenge, crop="square")
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == fastmri_prints(shared_data / challenge, tmp_path / "predictions", challenge)


def uneven(root, change):
    """Four volumes of three slices, no two alike nor symmetric, and predictions with some noise, changed."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    for i in range(4):
        places = rng.uniform(-0.7, 0.7, (3, 5, 2))
        blobs = [sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.05) for a, b in of_slice) for of_slice in places]
        target = (np.array(blobs) * 10.0 ** -(4 + i % 2)).astype(np.float32)
        write(root / "targets" / f"v{i}.h5", {"patient_id": f"p{i}"}, reconstruction_rss=target)
        image = np.abs(target + 0.02 * target.max() * rng.standard_normal(target.shape))
        write(root / "predictions" / f"v{i}.h5", reconstruction=change(image))
    return root / "predictions", root / "targets"


UNLIKE = {
    "units": (
        lambda x: x / 3e4,
        r"in 4 of 4 volumes \(v0.h5, ...\) .* are 3.3\de-05 times .* multiply them by 3e\+04$",
    ),
    "units of each volume": (lambda x: x / x.max(), r"not in one unit; give .* \(multiply v0.h5 by 0.0002\d*\)"),
    "bytes": (lambda x: (x / x.max() * 255).astype(np.uint8), "times as bright as their targets"),
    "mirrored": (lambda x: x[:, ::-1], r"in 4 of 4 .* are mirrored up-down: x = x\[:, ::-1\]$"),
    "reversed": (lambda x: x[::-1], "in 4 of 4 .* have their slices in reversed order"),
    "both": (lambda x: x[::-1, :, ::-1], r"are mirrored left-right and have their slices in reversed order: x = x\["),
    "moved": (lambda x: np.roll(x, (2, -1), (1, 2)), "lie 2 pixels down and 1 pixel to the left of their targets"),
    "signs": (lambda x: x * np.where(np.arange(48) % 2, 1, -1), r"have up to 5\d% of their energy below zero"),
    "constant": (lambda x: 0 * x + 1e-5, "in 4 of 4 .* are of one value in 12 slices"),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_predictions_handed_over_wrongly_are_told_and_scored_as_they_are(tmp_path, kind, capsys):
    change, says = UNLIKE[kind]
    predictions, targets = uneven(tmp_path, change)
    out = run(predictions, targets)
    summary = json.loads((out / "summary.json").read_text())
    assert [note for note in summary["notes"] if re.search(says, note)], summary["notes"]
    err = capsys.readouterr().err
    assert [line[6:] for line in err.splitlines() if line.startswith("note: ")] == summary["notes"]
    for r in read_results(out / "volumes.csv"):
        target, image = (
            stored(targets / r.volume, "reconstruction_rss"),
            stored(predictions / r.volume, "reconstruction"),
        )
        assert r.nmse == pytest.approx(float(fastmri_evaluate.nmse(target.astype(float), image.astype(float))))


def test_predictions_as_they_should_be_get_no_note(tmp_path):
    out = run(*uneven(tmp_path, lambda x: x))
    assert json.loads((out / "summary.json").read_text())["notes"] == []


def test_copies_and_predictions_of_another_volume_are_told(tmp_path, capsys):
    predictions, targets = uneven(tmp_path, lambda x: x)
    write(predictions / "v3.h5", reconstruction=7 * stored(targets / "v3.h5", "reconstruction_rss"))
    (predictions / "v0.h5").rename(predictions / "v")
    (predictions / "v2.h5").rename(predictions / "v0.h5")
    (predictions / "v").rename(predictions / "v2.h5")
    run(predictions, targets)
    err = capsys.readouterr().err
    assert "note: 2 of 4 volumes have the predictions of another one (v0.h5 has those of v2.h5)" in err
    assert "note: in 1 of 4 volumes (v3.h5) the predictions equal their targets but for a factor" in err


@pytest.mark.realdata
def test_evaluated_real_images_get_no_note(tmp_path, shared_data, capsys):
    """Zero-filled at 8x, of measured files."""
    data = DataConfig(path=str(shared_data / "multicoil"), mask="random", acceleration=[8])
    (evaluated,) = evaluate(
        EvaluateConfig(data=data, split="all", save=True, output=str(tmp_path / "e")), "zero-filled"
    )
    capsys.readouterr()
    out = run(evaluated / "reconstructions", shared_data / "multicoil")
    assert json.loads((out / "summary.json").read_text())["notes"] == []


def test_predictions_that_lie_deeper_are_found_for_the_caller(tmp_path, volume_writer):
    """As `evaluate --save` leaves them of a split folder."""
    volume_writer(tmp_path / "data" / "val" / "v.h5", matrix=(32, 32))
    data = DataConfig(path=str(tmp_path / "data"))
    (out,) = evaluate(EvaluateConfig(data, save=True, output=str(tmp_path / "out"), device="cpu"), "zero-filled")
    images = out / "reconstructions"
    with pytest.raises(InputError, match=f"has no v.h5 .* or give the folder where one is: {images}/val"):
        score(ScoreConfig(output=str(tmp_path / "no")), str(images), str(tmp_path / "data" / "val"))
    assert score(
        ScoreConfig(output=str(tmp_path / "yes")), str(images / "val"), str(tmp_path / "data" / "val")
    ).is_dir()
