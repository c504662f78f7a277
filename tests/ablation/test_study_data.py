"""Data that are gone, changed, linked or simulated otherwise; options and cells that are wrong from the start."""

import os
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import yaml
from tiny_study import GRID

from mrirecon.ablation.study.data import find_data, require_same_contents, signature
from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.ablation.work.prepare import prepare
from mrirecon.ablation.work.worker import Worker
from mrirecon.cli import main
from mrirecon.config.ablate import AblateConfig
from mrirecon.errors import DataChangedError, InputError
from mrirecon.training.module import ReconModule

SIMULATE = {"train": 2, "val": 1, "test": 1, "slices": 1, "matrix": [32, 32], "coils": 1}


@pytest.fixture
def own_data(study_data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(study_data, folder)
    return folder


def started(study_files, tmp_path, data, **config):
    return prepare(str(study_files()), AblateConfig(data=str(data), output=str(tmp_path / "study"), **config))


def test_data_that_are_gone_are_asked_for_and_not_simulated(study_files, own_data, tmp_path):
    study = started(study_files, tmp_path, own_data)
    own_data.rename(tmp_path / "moved")
    grid = study_files(simulate=SIMULATE)
    with pytest.raises(InputError, match="which is gone; say where: --data DIR"):
        prepare(str(grid), AblateConfig(output=str(study.folder.path)))
    assert not study.folder.data.exists()
    again = prepare(str(grid), AblateConfig(data=str(tmp_path / "moved"), output=str(study.folder.path)))
    assert again.plan.common == study.plan.common  # the same data by their content: the same runs


def test_an_edited_simulation_is_another_study(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.data.mkdir()
    made = dict.fromkeys(("source", "contrast"), "") | SIMULATE
    (folder.data / "simulation.yaml").write_text(yaml.safe_dump(made))
    grid = make_grid(GRID | {"simulate": SIMULATE | {"train": 8}})
    with pytest.raises(InputError, match="was simulated with"):
        find_data(folder, "", grid, {})


def test_a_worker_stops_when_the_data_have_changed(study_files, own_data, tmp_path):
    study = started(study_files, tmp_path, own_data)
    worker = Worker(study)
    worker._require_same_data()
    next(own_data.glob("train/*.h5")).unlink()
    with pytest.raises(DataChangedError, match="have changed since"):
        worker.loop()
    assert not study.folder.records()


def test_a_worker_where_other_files_have_the_same_names_sizes_and_dates_stops(study_files, own_data, tmp_path):
    study = started(study_files, tmp_path, own_data)
    shutil.copytree(own_data, tmp_path / "copy")  # with their dates, as `cp -p`
    own_data.rename(tmp_path / "of the first node")
    (tmp_path / "copy").rename(own_data)
    grid, described = study.grid, study.manifest["data"]
    require_same_contents(own_data, grid, described)
    path = next(own_data.glob("test/*.h5"))
    stat = path.stat()
    with h5py.File(path, "r+") as file:
        file["kspace"][0] *= 2
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    Worker(study)._require_same_data()  # sees no difference
    with pytest.raises(InputError, match="have other headers, attributes or first slices on"):
        Worker(study).loop()
    assert not study.folder.records()
    old = {key: value for key, value in described.items() if key not in ("content", "seen_as")}
    require_same_contents(own_data, grid, old)  # studies of earlier versions go on


def test_a_file_that_changes_in_a_run_fails_no_run(study_files, own_data, tmp_path, monkeypatch):
    """The runs are as they should be; they are to be done when the file is back."""
    study = started(study_files, tmp_path, own_data)
    original = ReconModule.on_train_batch_start

    def changing(self, batch, batch_idx):
        if batch_idx == 1:
            for path in own_data.glob("train/*.h5"):
                os.truncate(path, 5000)
        original(self, batch, batch_idx)

    monkeypatch.setattr(ReconModule, "on_train_batch_start", changing)
    with pytest.raises(DataChangedError, match=r"^train/.*\.h5: changed after it was checked, it had .* and has 5000"):
        Worker(study).loop()
    assert not study.folder.records()
    assert not study.folder.failed()


def test_edited_samples_go_not_beside_runs_of_those_before(study_files, own_data, tmp_path, monkeypatch):
    study = started(study_files, tmp_path, own_data)
    with h5py.File(next(own_data.glob("test/*.h5")), "r+") as file:
        file["kspace"][0] = file["kspace"][0] * np.float32(1.001)
    started(study_files, tmp_path / "new", own_data)
    with monkeypatch.context() as patch:
        patch.setattr(StudyFolder, "records", lambda self: {"of a trial": SimpleNamespace(stage="tune")})
        with pytest.raises(InputError, match=r"have the names, sizes and headers of .*, but other samples; put them"):
            started(study_files, tmp_path, own_data)
    assert study.manifest["data"]["samples"][1]


def test_a_copy_of_the_data_is_the_same_to_a_study_that_has_runs(study_files, own_data, tmp_path, monkeypatch):
    study = started(study_files, tmp_path, own_data)
    for path in own_data.glob("*/*.h5"):
        path.touch()
    monkeypatch.setattr(StudyFolder, "records", lambda self: {"of a trial": SimpleNamespace(stage="tune")})
    again = started(study_files, tmp_path, own_data)
    assert again.manifest["data"]["signature"] != study.manifest["data"]["signature"]
    assert again.manifest["data"]["samples"] == study.manifest["data"]["samples"]


def test_the_signature_sees_through_linked_folders(own_data, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for split in ("train", "val", "test"):
        (linked / split).symlink_to(own_data / split)
    settings = make_grid(GRID).cells[0].settings
    before = signature(linked, settings)
    next(own_data.glob("train/*.h5")).unlink()
    assert signature(linked, settings) != before
    assert signature(linked, settings | {"val_volumes": 1}) != signature(linked, settings)


def test_options_stay_until_they_are_given_again(study_files, study_data, tmp_path):
    first = started(study_files, tmp_path, study_data, logger="csv", lease=600, device="cpu", keep="nothing", threads=2)
    again = prepare(str(first.folder.path), AblateConfig())
    assert again.manifest["options"] == first.manifest["options"]
    assert again.plan.common.threads == 2
    assert prepare(str(first.folder.path), AblateConfig(logger="none")).manifest["options"]["logger"] == "none"


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ({"max_steps": -3}, "max_steps is -3"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"loss": "foo"}, "unknown loss 'foo'"),
        ({"data": {"mask": "foo"}}, "unknown mask 'foo'"),
        ({"protocol": "foo"}, "unknown protocol 'foo'"),
        ({"schedule": {"name": "foo"}}, "unknown schedule 'foo'"),
        ({"model": {"channels": 0}}, "model.channels is 0"),
        ({"model": {"norm": "foo"}}, "unknown norm 'foo'"),
    ],
)
def test_cells_that_cannot_be_made_are_refused_before_anything_is_written(capsys, study_files, tmp_path, base, words):
    grid = study_files(base=base, simulate=SIMULATE)
    assert main(["ablate", "run", str(grid), "-o", str(tmp_path / "study"), "--quiet"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(("flag", "words"), [("--device", "tpu"), ("--executor", "slurm"), ("--threads", "100000")])
def test_wrong_machines_leave_nothing(capsys, monkeypatch, study_files, tmp_path, flag, words):
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch there
    grid = study_files(simulate=SIMULATE)
    assert main(["ablate", "run", str(grid), "-o", str(tmp_path / "study"), flag, words, "--quiet"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_wrong_cores_are_named(capsys, undisturbed):
    assert main(["ablate", "worker", str(undisturbed.folder.path), "--cores", "9999"]) == 2
    assert "--cores [9999]; this machine has" in capsys.readouterr().err


def test_a_report_that_lost_a_table_is_written_again(undisturbed, tmp_path):
    shutil.copytree(undisturbed.folder.path, tmp_path / "study")
    table = tmp_path / "study" / "report" / "results.csv"
    table.unlink()
    assert main(["ablate", "report", str(tmp_path / "study")]) == 0
    assert table.read_bytes() == undisturbed.results
