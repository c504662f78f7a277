"""Local copies of the data: what they are, what a command does with them, and that nothing of them is left."""

import os
import shutil

import pytest

from mrirecon.config import DataConfig, EvaluateConfig, ModelConfig, TrainConfig
from mrirecon.data.folders import stage
from mrirecon.data.folders.folder import open_split
from mrirecon.data.folders.manifest import data_manifest
from mrirecon.data.folders.stage import staged, staging
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.evaluation.results import read_results
from mrirecon.runs import RunFolder
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.train import train


@pytest.fixture
def data(tmp_path, volume_writer):
    for split, n in (("train", 2), ("val", 2)):
        for i in range(n):
            (tmp_path / "data" / split).mkdir(parents=True, exist_ok=True)
            path = tmp_path / "data" / split / f"{split}{i}.h5"
            volume_writer(path, n_slices=2, n_coils=2, matrix=(32, 32), seed=10 * n + i + len(split))
            os.utime(path, ns=(1, 1_600_000_000_123_456_789 + i))
    return tmp_path / "data"


@pytest.fixture
def local(tmp_path):
    (tmp_path / "local").mkdir()
    yield tmp_path / "local"
    assert list((tmp_path / "local").iterdir()) == []


def test_copies_are_the_files_with_their_names_and_times(data, local):
    with staging(str(local)):
        volumes = open_split(DataConfig(path=str(data)), "val", 0)
        assert [volume.name for volume in volumes] == ["val/val0.h5", "val/val1.h5"]
        for volume in volumes:
            source = data / volume.name
            assert local in volume.path.parents
            assert volume.path.read_bytes() == source.read_bytes()
            assert volume.path.stat().st_mtime_ns == source.stat().st_mtime_ns
            assert (volume.kspace(1) == Volume(source).kspace(1)).all()
        manifest = data_manifest(volumes)
        assert len(list(local.rglob("*.h5"))) == 2  # of the selected ones only
        (folder,) = local.iterdir()
        assert folder.stat().st_mode & 0o077 == 0  # k-space of patients
    assert manifest == data_manifest(open_split(DataConfig(path=str(data)), "val", 0))


def test_the_numbers_are_those_of_the_files_themselves(data, local, tmp_path, monkeypatch):
    """Of training, of a resumed one, and of evaluation; only copies are read once they are there."""
    copied = []
    real = stage._copy
    monkeypatch.setattr(stage, "_copy", lambda volume, place: (copied.append(volume.name), real(volume, place)))
    weights, tables = [], []
    for folder in ("", str(local)):
        run = tmp_path / str(len(weights)) / "run"
        config = TrainConfig(
            data=DataConfig(path=str(data), stage=folder),
            model=ModelConfig(channels=2, pools=1),
            max_steps=2,
            precision="fp32",
            device="cpu",
            threads=1,
            output=str(run),
        )
        train(config)
        weights.append((run / "weights.safetensors").read_bytes())
        use = EvaluateConfig(data=config.data, split="val", device="cpu", threads=1)
        (table,) = evaluate(use, str(run))
        tables.append(
            [{k: v for k, v in vars(row).items() if k != "seconds"} for row in read_results(table / "volumes.csv")]
        )
    assert weights[0] == weights[1]
    assert tables[0] == tables[1]
    assert sorted(copied) == ["train/train0.h5", "train/train1.h5", *["val/val0.h5"] * 2, *["val/val1.h5"] * 2]
    facts = [
        RunFolder(tmp_path / str(i) / "run").provenance.read_text().partition('"data_manifest"')[2][:120]
        for i in (0, 1)
    ]
    assert facts[0] == facts[1]
    resume_training(str(tmp_path / "0" / "run"), TrainConfig(data=DataConfig(stage=str(local))), ("data.stage",))
    assert len(copied) == 10


def test_outside_of_staging_volumes_are_themselves(data):
    volumes = [Volume(data / "val" / "val0.h5")]
    assert staged(volumes) == volumes
    with staging(""):
        assert staged(volumes) == volumes


def test_a_copy_that_is_not_the_file_is_noticed(data, local, monkeypatch):
    """Such as a failing disk gives."""
    real = os.fsync

    def damage(descriptor):
        real(descriptor)
        os.pwrite(descriptor, b"x", 2000)

    monkeypatch.setattr(os, "fsync", damage)
    with pytest.raises(WorkFailedError, match=r"the copy .*val0.h5 is not what was read"), staging(str(local)):
        open_split(DataConfig(path=str(data)), "val", 0)


def test_a_file_that_changes_meanwhile_is_named(data, local, monkeypatch):
    real = os.fsync

    def change(descriptor):
        real(descriptor)
        os.utime(data / "val" / "val0.h5", ns=(2, 2))

    monkeypatch.setattr(os, "fsync", change)
    with pytest.raises(WorkFailedError, match=r"val0.h5 changed while it was copied"), staging(str(local)):
        open_split(DataConfig(path=str(data)), "val", 0)


def test_too_small_a_folder_gets_no_file(data, local, monkeypatch):
    usage = shutil.disk_usage(local)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(InputError, match=r"--data.stage .* has 0.0 GiB free"), staging(str(local)):
        open_split(DataConfig(path=str(data)), "val", 0)


def test_a_folder_of_the_node_goes_by_its_variable(data, local, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(local))
    with staging("$TMPDIR"):
        (volume, _) = open_split(DataConfig(path=str(data)), "val", 0)
        assert local in volume.path.parents


@pytest.mark.parametrize(
    ("folder", "words"), [("$NOSUCHVARIABLE/x", "is not set here"), ("/nowhere/at/all", "No such file")]
)
def test_no_folder_is_one_line(folder, words):
    with pytest.raises(InputError, match=words), staging(folder):
        pass
