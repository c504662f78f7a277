"""Data folders: flat, with split folders, as fastMRI unpacks; what is selected of them."""

import numpy as np
import pytest

from mrirecon import progress
from mrirecon.config import DataConfig
from mrirecon.data.folders.folder import open_folder, open_split
from mrirecon.data.folders.volume_files import list_volumes
from mrirecon.errors import InputError

SMALL = {"n_slices": 2, "n_coils": 2, "matrix": (16, 16)}


@pytest.fixture
def make(volume_writer, tmp_path):
    """Writes files by relative name; a one-coil file where the name holds `single`."""

    def write(*names, **options):
        for i, name in enumerate(names):
            coils = {"n_coils": 1} if "single" in name else {}
            volume_writer(tmp_path / name, **({"seed": i} | SMALL | coils | options))
        return tmp_path

    return write


def names(folder, split, seed=0, **config):
    return [volume.name for volume in open_split(DataConfig(path=str(folder), **config), split, seed)]


def fault(folder, split="train", **config):
    with pytest.raises(InputError) as caught:
        names(folder, split, **config)
    return str(caught.value)


def test_flat_folder_is_split_by_patient(make):
    for i in range(12):
        make(f"{i:02}.h5", patient_id=f"p{i // 2}")
    folder = make("12.h5")
    sides = {split: names(folder, split) for split in ("train", "val", "test")}
    assert (
        sorted(name for side in sides.values() for name in side)
        == names(folder, "all")
        == [f"{i:02}.h5" for i in range(13)]
    )
    assert open_folder(DataConfig(path=str(folder)), 0).assignment == sides
    for side in sides.values():
        pairs = {int(name[:2]) // 2 for name in side if name != "12.h5"}
        assert all({f"{2 * p:02}.h5", f"{2 * p + 1:02}.h5"} <= set(side) for p in pairs)


def test_fewer_than_three_patients_cannot_be_split_but_evaluated(make):
    folder = make("a.h5", "b.h5")
    for split in ("train", "val", "test"):
        message = fault(folder, split)
        assert "2 volumes of 2 patient(s) cannot be split" in message
        assert "--split all" in message
    assert names(folder, "all") == ["a.h5", "b.h5"]


def test_own_split_folders(make):
    folder = make("train/a.h5", "train/b.h5", "val/c.h5", "test/d.h5")
    assert names(folder, "train") == ["train/a.h5", "train/b.h5"]
    assert names(folder, "val") == ["val/c.h5"]
    assert names(folder, "test") == ["test/d.h5"]
    assert names(folder, "all") == ["train/a.h5", "train/b.h5", "val/c.h5", "test/d.h5"]
    assert open_folder(DataConfig(path=str(folder)), 0).notes == []


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("multicoil_train", "multicoil_val", "multicoil_test"),
        ("singlecoil_train", "singlecoil_val", "singlecoil_test_v2"),
        ("knee_multicoil_train", "knee_multicoil_val", "brain_multicoil_test_full_batch_0"),
    ],
)
def test_fastmris_folder_names(make, train, val, test):
    folder = make(f"{train}/a.h5", f"{val}/b.h5", f"{test}/c.h5")
    for split, name in (("train", f"{train}/a.h5"), ("val", f"{val}/b.h5"), ("test", f"{test}/c.h5")):
        assert names(folder, split) == [name]


def test_batches_of_one_split_are_joined(make):
    folder = make("multicoil_train_batch_0/a.h5", "multicoil_train_batch_1/b.h5", "multicoil_val/c.h5")
    assert len(names(folder, "train")) == 2


def test_a_file_in_two_folders_of_a_split(make):
    folder = make("multicoil_test/a.h5", "multicoil_test_v2/a.h5", "multicoil_val/b.h5")
    assert "multicoil_test/a.h5 and multicoil_test_v2/a.h5 are both in 'test'" in fault(folder, "val")


def test_public_test_files_have_no_reference_so_val_is_halved(make, capsys):
    make(*(f"multicoil_val/{i}.h5" for i in range(8)), "multicoil_train/t.h5")
    folder = make("multicoil_test/x.h5", target=False, mask=np.arange(16) % 2 == 0)
    val, test = names(folder, "val"), names(folder, "test")
    assert len(val) == len(test) == 4
    assert sorted(val + test) == [f"multicoil_val/{i}.h5" for i in range(8)]
    assert "val is halved by patient: 4 volumes to tune, 4 to test" in capsys.readouterr().err
    assert names(folder, "test", seed=5) == test  # one test set for runs of all seeds
    assert names(folder, "train") == ["multicoil_train/t.h5"]


def test_notes_are_quiet_when_asked(make, capsys, monkeypatch):
    monkeypatch.setattr(progress, "quiet", True)
    make("val/a.h5", "val/b.h5")
    folder = make("test/x.h5", target=False)
    assert len(names(folder, "val")) == 1
    assert capsys.readouterr().err == ""


def test_one_patient_of_val_cannot_be_halved(make):
    make("val/a.h5")
    folder = make("test/x.h5", target=False)
    assert names(folder, "val") == ["val/a.h5"]
    message = fault(folder, "test")
    assert "have no reference" in message
    assert "one patient" in message


def test_training_files_need_a_reference(make):
    make("train/a.h5", "val/b.h5")
    folder = make("train/x.h5", target=False)
    assert fault(folder).startswith("train/x.h5: has no reference image")


def test_a_split_that_is_not_there(make):
    folder = make("train/a.h5", "val/b.h5")
    assert "has no split 'test': it has train, val" in fault(folder, "test")
    assert "unknown split 'vla'; did you mean 'val'?" in fault(folder, "vla")


def test_nothing_to_read(make, tmp_path):
    assert "there is no folder" in fault(tmp_path / "gone")
    assert "no .h5 file in" in fault(tmp_path)
    for folder in (tmp_path / "gone", tmp_path, ""):
        assert "mrirecon data simulate OUT" in fault(folder)
    make("a.h5")
    assert "is a file; give the folder" in fault(tmp_path / "a.h5")


def test_other_and_hidden_files_are_left_alone(make, tmp_path):
    folder = make("train/a.h5", "val/b.h5")
    (folder / "train" / "notes.txt").write_text("hello")
    (folder / "train" / ".a.h5.123.tmp").write_text("")
    (folder / "train" / ".b.h5").write_text("not a volume")
    (folder / "readme.md").write_text("hello")
    (folder / "other").mkdir()
    assert names(folder, "train") == ["train/a.h5"]
    assert [volume.name for volume in list_volumes(folder / "train")] == ["a.h5"]


def test_files_beside_split_folders(make):
    folder = make("a.h5", "train/b.h5")
    assert "both .h5 files and split folders" in fault(folder)


def test_both_kinds_of_coils_in_fastmris_folders(make):
    folder = make("multicoil_val/a.h5", "singlecoil_val/a.h5")
    assert "has single-coil and multi-coil folders (multicoil_val, singlecoil_val)" in fault(folder, "val")
    assert names(folder, "val", coils="multi") == ["multicoil_val/a.h5"]
    assert names(folder, "val", coils="single") == ["singlecoil_val/a.h5"]
    assert names(folder, "val", coils="both") == ["multicoil_val/a.h5", "singlecoil_val/a.h5"]
    assert "did you mean 'single'" in fault(folder, "val", coils="singel")


def test_both_kinds_of_coils_in_one_folder(make):
    folder = make("val/multi.h5", "val/single.h5")
    assert "stand together; choose: --coils single, multi or both" in fault(folder, "val")
    assert names(folder, "val", coils="single") == ["val/single.h5"]
    (folder / "val" / "single.h5").unlink()
    assert "none of the 1 files is single-coil" in fault(folder, "val", coils="single")


def test_selection_by_acquisition(make):
    make("train/a.h5", "train/b.h5", acquisition="AXT1")
    folder = make("train/c.h5", acquisition="AXT2")
    assert names(folder, "train", acquisition=["AXT1"]) == ["train/a.h5", "train/b.h5"]
    assert len(names(folder, "train", acquisition=["AXT1", "AXT2"])) == 3
    assert "unknown acquisition 'AXT3'; did you mean 'AXT2'? Known: AXT1, AXT2." in fault(folder, acquisition=["AXT3"])


def test_selection_by_number(make):
    folder = make(*(f"train/{i}.h5" for i in range(8)))
    chosen = {tuple(names(folder, "train", seed=seed, volumes=3)) for seed in range(6)}
    assert len(chosen) > 1
    assert {len(some) for some in chosen} == {3}
    config = DataConfig(path=str(folder), volumes=5)
    fewer = open_split(config, "train", 0, n_volumes=2)
    assert len(fewer) == 2
    assert {volume.name for volume in fewer} <= set(names(folder, "train", volumes=5))


def test_selection_of_slices_that_are_not_there(make):
    folder = make("train/a.h5")
    assert names(folder, "train", slices=[0, 1]) == ["train/a.h5"]
    assert "train/a.h5 has slices 0 to 1, not 1 to 2" in fault(folder, slices=[1, 2])


def test_every_file_is_checked_before_work(make):
    folder = make("train/a.h5", "train/b.h5", "train/c.h5")
    for name in ("a.h5", "c.h5"):
        data = (folder / "train" / name).read_bytes()
        (folder / "train" / name).write_bytes(data[: len(data) // 2])
    lines = fault(folder).split("\n")
    assert [line.split(":")[0] for line in lines] == ["train/a.h5", "train/c.h5"]
    assert all("is truncated" in line for line in lines)


def test_varying_sizes_in_one_folder(make):
    make("train/a.h5", matrix=(16, 20))
    folder = make("train/b.h5", matrix=(24, 16), n_coils=5)
    shapes = [volume.image_shape for volume in open_split(DataConfig(path=str(folder)), "train", 0)]
    assert shapes == [(16, 20), (24, 16)]


@pytest.mark.realdata
def test_real_folders(shared_data):
    assert len(names(shared_data / "multicoil", "all")) == 4
    assert len(names(shared_data / "singlecoil", "all")) == 4
    both = {tuple(sorted(side)) for side in _sides(shared_data / "singlecoil")}
    assert any({"brain_gre_0p055t_cor.h5", "brain_gre_0p055t_sag.h5"} <= set(side) for side in both)


def _sides(folder):
    return [names(folder, split) for split in ("train", "val", "test")]
