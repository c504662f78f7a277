"""`evaluate` equals an independent computation by fastMRI, and its folders hold what they promise."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import fastmri
import fastmri.data
import h5py
import numpy as np
import pytest
import torch
from fastmri import evaluate as fastmri_evaluate
from fastmri.data import subsample, transforms

from mrirecon.config import DataConfig, EvaluateConfig
from mrirecon.data.hdf5.opening import close
from mrirecon.errors import InputError
from mrirecon.evaluation.results import VolumeResult, read_results
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.runs import RunFolder
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.setup import evaluations as workflow

MASKS = {
    "random": subsample.RandomMaskFunc,
    "equispaced_fraction": subsample.EquispacedMaskFractionFunc,
}


def by_fastmri(path, mask, acceleration, draw=0):
    """Scores of the zero-filled image of one file: fastMRI's masks, transforms and metrics, and h5py."""
    with h5py.File(path) as file:
        kspace, name = file["kspace"][()], path.name
        target = file["reconstruction_esc" if kspace.ndim == 3 else "reconstruction_rss"][()]
    kspace = kspace[:, None] if kspace.ndim == 3 else kspace
    seed = (*map(ord, name), draw) if draw else tuple(map(ord, name))
    function = MASKS[mask]([0.32 / acceleration], [acceleration])
    images = []
    for slice_kspace in kspace:
        masked, *_ = transforms.apply_mask(transforms.to_tensor(slice_kspace), function, seed=seed)
        coils = transforms.complex_center_crop(fastmri.ifft2c(masked), target.shape[1:])
        images.append(fastmri.rss(fastmri.complex_abs(coils)).numpy())
    image = np.stack(images)
    return {
        name: float(np.squeeze(getattr(fastmri_evaluate, name)(target, image))) for name in ("ssim", "psnr", "nmse")
    }


@pytest.fixture
def folder(tmp_path, volume_writer):
    """Seven patients, two contrasts, sizes and oversampling that differ."""
    for i in range(7):
        volume_writer(
            tmp_path / "data" / "val" / f"file{i}.h5",
            n_slices=2 + i % 2,
            matrix=(48, 40) if i % 3 else (44, 52),
            oversampling=1 + i % 2,
            acquisition=("AXT1", "CORPD_FBK")[i % 2],
            scale=(1e-6, 1.0, 100.0)[i % 3],
            seed=i,
        )
    return tmp_path / "data"


def config(folder, **changes):
    data = {k: changes.pop(k) for k in list(changes) if k in DataConfig.__dataclass_fields__}
    return EvaluateConfig(
        data=DataConfig(path=str(folder), **data), **{"output": str(folder.parent / "out"), **changes}
    )


def require_equal(result: VolumeResult, expected):
    for name, value in expected.items():
        assert getattr(result, name) == pytest.approx(value, rel=1e-5), (result.volume, name)
        assert getattr(result, f"zf_{name}") == getattr(result, name)


def test_zero_filled_equals_fastmri(folder, capsys):
    (out,) = evaluate(config(folder), "zero-filled")
    results = read_results(out / "volumes.csv")
    assert [r.volume for r in results] == [f"val/file{i}.h5" for i in range(7)]
    for result in results:
        require_equal(result, by_fastmri(folder / result.volume, "random", 4))
        assert (result.acceleration, result.mask, result.mask_draw) == (4, "random", 0)
        assert (result.protocol, result.reconstructor, result.checkpoint) == ("fastmri-v1", "zero-filled", "")
        assert result.origin == "simulated-from-phantom"
        assert result.acceleration_true > 1
    text = capsys.readouterr().out
    assert "fastmri-v1" in text
    assert "val/file3.h5" in text


def test_single_coil_equals_fastmri(tmp_path, volume_writer):
    path = volume_writer(tmp_path / "data" / "val" / "one.h5", n_coils=1)
    (out,) = evaluate(config(tmp_path / "data", mask="random"), "zero-filled")
    (result,) = read_results(out / "volumes.csv")
    require_equal(result, by_fastmri(path, "random", 4))


def test_two_accelerations_and_three_draws_equal_fastmri(folder):
    folders = evaluate(config(folder, acceleration=[4, 8], mask_draws=3, mask="equispaced_fraction"), "zero-filled")
    assert [path.name for path in folders] == ["equispaced_fraction-4x", "equispaced_fraction-8x"]
    for out, acceleration in zip(folders, (4, 8), strict=True):
        results = read_results(out / "volumes.csv")
        assert [(r.mask_draw, r.volume) for r in results] == [
            (d, f"val/file{i}.h5") for d in range(3) for i in range(7)
        ]
        for r in results:
            assert r.acceleration == acceleration
            require_equal(r, by_fastmri(folder / r.volume, "equispaced_fraction", acceleration, r.mask_draw))
        draws = {(r.volume, r.mask_id) for r in results}
        assert len(draws) > 7  # the draws differ


def test_means_and_deviations_follow_from_the_table(folder):
    (out,) = evaluate(config(folder), "zero-filled")
    results = read_results(out / "volumes.csv")
    summary = json.loads((out / "summary.json").read_text())
    for name in ("ssim", "psnr", "nmse"):
        values = [getattr(r, name) for r in results]
        assert summary["overall"][name]["mean"] == pytest.approx(np.mean(values), rel=1e-12)
        assert summary["overall"][name]["sd"] == pytest.approx(np.std(values, ddof=1), rel=1e-10)
        assert summary["overall"][name]["low"] < np.mean(values) < summary["overall"][name]["high"]
    assert summary["overall"]["n_patients"] == 7
    assert summary["by_acquisition"]["AXT1"]["n_volumes"] == 4
    assert summary["protocol"]["name"] == "fastmri-v1"
    assert (summary["split"], summary["mask"], summary["acceleration"]) == ("val", "random", 4)
    assert summary["provenance"]["packages"]["torch"]
    assert len(summary["provenance"]["data_manifest"]["sha256"]) == 64


def _numbers(folder) -> Sequence[tuple]:
    with (folder / "volumes.csv").open() as handle:
        return [tuple(v for k, v in row.items() if k != "seconds") for row in csv.DictReader(handle)]


@pytest.mark.parametrize("changes", [{"batch_size": 4}, {"workers": 2}], ids=["batch of 4", "2 workers"])
def test_batch_and_workers_change_no_digit_of_zero_filled(folder, changes):
    (one,) = evaluate(config(folder), "zero-filled")
    (other,) = evaluate(config(folder, output=str(folder.parent / "other"), **changes), "zero-filled")
    assert _numbers(one) == _numbers(other)


def test_equal_file_names_in_two_folders_are_two_volumes(tmp_path, volume_writer):
    for i, split in enumerate(("train", "val")):
        volume_writer(tmp_path / "data" / split / "v.h5", seed=i, patient_id=split)
    (out,) = evaluate(config(tmp_path / "data", split="all", mask="random", save=True), "zero-filled")
    results = read_results(out / "volumes.csv")
    assert [r.volume for r in results] == ["train/v.h5", "val/v.h5"]
    for result in results:
        require_equal(result, by_fastmri(tmp_path / "data" / result.volume, "random", 4))
    assert len(list((out / "figures").iterdir())) == len(list((out / "reconstructions").glob("*/v.h5"))) == 2


def test_the_data_range_is_that_of_all_slices_when_some_are_selected(tmp_path, volume_writer):
    path = volume_writer(tmp_path / "data" / "val" / "v.h5", n_slices=4)
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"][3] *= 3
        file.attrs["max"] = 1e-9  # what the attribute says is not used
        target = file["reconstruction_rss"][()]
    (out,) = evaluate(config(tmp_path / "data", slices=[1, 2], save=True), "zero-filled")
    (result,) = read_results(out / "volumes.csv")
    with h5py.File(out / "reconstructions" / "val" / "v.h5") as file:
        image = file["reconstruction"][()]
    assert result.n_slices == 2
    expected = fastmri_evaluate.psnr(target[1:3], image, maxval=target.max())
    assert result.psnr == pytest.approx(expected, rel=1e-6)
    assert result.ssim == pytest.approx(fastmri_evaluate.ssim(target[1:3], image, maxval=target.max()).item(), rel=1e-5)


def test_a_files_own_mask_is_used_once_unless_another_is_named(tmp_path, volume_writer):
    mask = np.zeros(40, bool)
    mask[::5] = mask[18:22] = True
    volume_writer(tmp_path / "data" / "val" / "own.h5", mask=mask, attrs={"acceleration": 5})
    volume_writer(tmp_path / "data" / "val" / "drawn.h5", seed=1)
    folders = evaluate(config(tmp_path / "data", mask="auto", acceleration=[4, 8], mask_draws=2), "zero-filled")
    assert [path.name for path in folders] == ["equispaced_fraction-4x", "equispaced_fraction-8x", "file-5x"]
    (result,) = read_results(folders[-1] / "volumes.csv")
    assert (result.volume, result.mask, result.acceleration) == ("val/own.h5", "file", 5)
    assert result.acceleration_true == pytest.approx(40 / mask.sum())
    assert {r.volume for r in read_results(folders[0] / "volumes.csv")} == {"val/drawn.h5"}
    with pytest.raises(InputError, match=r"val/own.h5: its k-space is undersampled already \(29 of 40 .* --mask file"):
        evaluate(config(tmp_path / "data", mask="random"), "zero-filled")
    with pytest.raises(InputError, match=r"val/drawn.h5: --mask file, but it has neither a data set 'mask' nor gaps"):
        evaluate(config(tmp_path / "data", mask="file"), "zero-filled")
    close(tmp_path / "data" / "val" / "own.h5")
    with h5py.File(tmp_path / "data" / "val" / "own.h5", "r+") as file:
        file["kspace"][...] += 1e-3  # now full, whatever its mask says
    (named,) = evaluate(config(tmp_path / "data", mask="random", output=str(tmp_path / "named")), "zero-filled")
    assert {r.mask for r in read_results(named / "volumes.csv")} == {"random"}


def test_own_masks_of_several_accelerations_share_one_table(tmp_path, volume_writer, monkeypatch):
    """Their mean over volumes is that of all, beside those of each rounded acceleration."""
    for i, step in enumerate((2, 3, 8)):
        mask = np.arange(40) % step == 0
        mask[18:22] = True
        volume_writer(tmp_path / "data" / "val" / f"{i}.h5", mask=mask, seed=i)
    monkeypatch.chdir(tmp_path)
    (out,) = evaluate(config(tmp_path / "data", mask="auto", output=""), "zero-filled")
    assert out == Path("runs/zero-filled/evaluation/data-val-file-mixed")
    results, summary = read_results(out / "volumes.csv"), json.loads((out / "summary.json").read_text())
    assert summary["overall"]["ssim"]["mean"] == pytest.approx(np.mean([r.ssim for r in results]), rel=1e-12)
    assert summary["acceleration"] is None
    assert {name: group["n_volumes"] for name, group in summary["by_acceleration"].items()} == {"2": 2, "4": 1}


def test_saved_reconstructions_are_scored_alike_by_fastmri(tmp_path, volume_writer):
    """fastMRI's own evaluator reads them: `reconstruction`, one file per volume, equal names."""
    for i in range(2):
        volume_writer(tmp_path / "data" / "val" / f"v{i}.h5", matrix=(40, 40), seed=i)
    (out,) = evaluate(config(tmp_path / "data", save=True), "zero-filled")
    for result in read_results(out / "volumes.csv"):
        with h5py.File(tmp_path / "data" / result.volume) as file:
            target = file["reconstruction_rss"][()]
        with h5py.File(out / "reconstructions" / result.volume) as file:
            image = file["reconstruction"][()]
        assert result.ssim == pytest.approx(fastmri_evaluate.ssim(target, image).item(), rel=1e-5)
        assert result.nmse == pytest.approx(float(fastmri_evaluate.nmse(target, image)), rel=1e-5)


def test_a_figure_of_the_middle_slice_of_three_volumes(folder):
    (out,) = evaluate(config(folder), "zero-filled")
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        "00-val_file0-slice001.png",
        "01-val_file3-slice001.png",
        "02-val_file6-slice001.png",
    ]


def test_chosen_slices_are_drawn(folder):
    (out,) = evaluate(config(folder, figures=[0, 1]), "zero-filled")
    assert len(list((out / "figures").iterdir())) == 6
    with pytest.raises(InputError, match=r"no slice 9 to draw in val/file0.h5; scored are 0 to 1"):
        evaluate(config(folder, figures=[9], overwrite=True), "zero-filled")


@pytest.mark.parametrize(
    ("words", "volumes"),
    [
        ([], [0, 3, 6]),
        (["val/file2.h5"], [2]),
        (["file5.h5", "file1"], [1, 5]),
        (["*[02]*"], [0, 2]),
        (["all"], range(7)),
    ],
)
def test_figures_of_chosen_volumes(folder, words, volumes):
    (out,) = evaluate(config(folder, figure_volumes=words, figures=[1, 0]), "zero-filled")
    expected = [f"val_file{v}-slice00{i}" for v in volumes for i in (1, 0)]
    assert sorted(path.stem for path in (out / "figures").iterdir()) == [
        f"{number:02d}-{name}" for number, name in enumerate(expected)
    ]


def test_of_volumes_with_and_without_a_mask_each_folder_draws_its_own(tmp_path, volume_writer):
    mask = np.zeros(40, bool)
    mask[::5] = mask[18:22] = True
    volume_writer(tmp_path / "data" / "val" / "own.h5", mask=mask)
    for i in range(2):
        volume_writer(tmp_path / "data" / "val" / f"drawn{i}.h5", seed=i)
    folders = evaluate(config(tmp_path / "data", mask="auto", figure_volumes=["own", "drawn1"]), "zero-filled")
    drawn = [[path.name for path in (out / "figures").iterdir()] for out in folders]
    assert drawn == [["00-val_drawn1-slice001.png"], ["00-val_own-slice001.png"]]


def test_a_volume_to_draw_that_is_not_there_is_named(folder):
    for words, says in (
        (["file9.h5"], r"--figure-volumes file9.h5: no volume of that name is scored; did you mean 'file"),
        (["file1.h5", "T2*"], r"--figure-volumes T2\*: .* There are 7, the first is val/file0.h5"),
    ):
        with pytest.raises(InputError, match=says):
            evaluate(config(folder, figure_volumes=words), "zero-filled")
    assert not (folder.parent / "out").exists()


def test_default_place_is_a_run_folder(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (out,) = evaluate(config(folder, output=""), "zero-filled")
    assert out == RunFolder(type(out)("runs") / "zero-filled").evaluation("data", "val", "random", "4x")
    assert {path.name for path in out.iterdir()} == {"volumes.csv", "summary.json", "figures"}


def test_results_are_replaced_only_when_asked(folder):
    (out,) = evaluate(config(folder), "zero-filled")
    before = (out / "volumes.csv").read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        evaluate(config(folder, slices=[0, 0]), "zero-filled")
    assert (out / "volumes.csv").read_bytes() == before
    evaluate(config(folder, slices=[0, 0], overwrite=True), "zero-filled")
    assert {r.n_slices for r in read_results(out / "volumes.csv")} == {1}
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_a_folder_of_other_things_is_never_replaced(folder):
    (folder.parent / "out").mkdir()
    (folder.parent / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="something else"):
        evaluate(config(folder, overwrite=True), "zero-filled")
    assert (folder.parent / "out" / "thesis.tex").is_file()


class Half:
    """A reconstruction that differs from zero-filled; fails on request."""

    def __init__(self, fail_at=math.inf):
        self.calls, self.fail_at = 0, fail_at

    def __call__(self, sample):
        self.calls += 1
        if self.calls > self.fail_at:
            raise RuntimeError("out of memory")
        return sample.image * 0.9


def use(monkeypatch, reconstruct, path):
    made = Reconstructor("half", reconstruct, RunFolder(path), torch.device("cpu"), checkpoint="best")
    monkeypatch.setattr(workflow, "find_reconstructor", lambda *_: made)


def test_a_network_stands_beside_zero_filled(folder, monkeypatch, tmp_path, capsys):
    use(monkeypatch, Half(), tmp_path / "run")
    (out,) = evaluate(config(folder, output="", batch_size=2), "run")
    assert out.parent == tmp_path / "run" / "evaluation"
    (reference,) = evaluate(replace(config(folder), batch_size=2), "run")
    assert _numbers(out) == _numbers(reference)
    summary = json.loads((out / "summary.json").read_text())
    for result in read_results(out / "volumes.csv"):
        expected = by_fastmri(folder / result.volume, "random", 4)
        assert result.zf_ssim == pytest.approx(expected["ssim"], rel=1e-5)
        assert result.ssim != result.zf_ssim
        assert result.checkpoint == "best"
    differences = [r.psnr - r.zf_psnr for r in read_results(out / "volumes.csv")]
    assert summary["overall"]["difference_psnr"]["mean"] == pytest.approx(np.mean(differences))
    assert summary["checkpoint"] == "best"
    assert "paired difference" in capsys.readouterr().out


def test_a_failure_leaves_nothing_behind(folder, monkeypatch, tmp_path):
    use(monkeypatch, Half(fail_at=5), tmp_path / "run")
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(config(folder), "run")
    assert not list(folder.parent.glob("*out*"))
    assert not list(folder.parent.glob(".*"))


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({"split": "tset"}, "zero-filled", "unknown split 'tset'; did you mean 'test'"),
        ({}, "zero-fille", "unknown method 'zero-fille'; did you mean 'zero-filled'"),
        ({"precision": "fp16"}, "zero-filled", "unknown precision 'fp16'"),
        ({"device": "tpu"}, "zero-filled", "unknown device 'tpu'"),
        ({"mask": "ranodm"}, "zero-filled", "unknown mask 'ranodm'; did you mean 'random'"),
        ({"mask_draws": 0}, "zero-filled", "mask_draws is 0; it must be at least 1"),
        ({"slices": [0, 9]}, "zero-filled", "file0.h5 has slices 0 to 1"),
        ({"acceleration": [2], "center_fraction": [0.6]}, "zero-filled", "center fraction 0.6"),
        ({"batch_size": 0}, "zero-filled", "batch_size is 0; it must be at least 1"),
    ],
)
def test_wrong_calls_say_what_is_wrong_and_write_nothing(folder, changes, name, says):
    with pytest.raises(InputError, match=says):
        evaluate(config(folder, **changes), name)
    assert not (folder.parent / "out").exists()


def test_files_without_reference_are_refused(tmp_path, volume_writer):
    volume_writer(tmp_path / "data" / "test" / "v.h5", target=False)
    volume_writer(tmp_path / "data" / "val" / "w.h5")
    with pytest.raises(InputError, match="reference"):
        evaluate(config(tmp_path / "data", split="test"), "zero-filled")
    with pytest.raises(InputError, match=r"v.h5: has no reference image, which evaluation needs"):
        evaluate(config(tmp_path / "data", split="all"), "zero-filled")


@pytest.mark.realdata
@pytest.mark.parametrize("kind", ["multicoil", "singlecoil"])
def test_real_files_equal_fastmri(shared_data, tmp_path, kind):
    (out,) = evaluate(
        EvaluateConfig(
            data=DataConfig(path=str(shared_data / kind)), split="all", output=str(tmp_path / "out"), mask_draws=2
        ),
        "zero-filled",
    )
    results = read_results(out / "volumes.csv")
    assert len(results) == 8
    for result in results:
        require_equal(result, by_fastmri(shared_data / kind / result.volume, "random", 4, result.mask_draw))
        assert result.origin == "measured"
