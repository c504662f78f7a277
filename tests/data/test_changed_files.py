"""Nothing is read of a file that changed after it was checked; a record tells a copy from an edited file."""

import os
import pickle
import re
import shutil

import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.check import check_volumes
from mrirecon.data.folders.manifest import first_difference, half_known, read_record, require_unchanged, write_record
from mrirecon.data.folders.volume_files import list_volumes
from mrirecon.data.images import list_references, search_images
from mrirecon.data.loading.loaders import load_batches
from mrirecon.data.transforms import to_image
from mrirecon.errors import DataChangedError, InputError

SMALL = {"n_slices": 5, "n_coils": 2, "matrix": (16, 16)}


@pytest.fixture
def folder(tmp_path, volume_writer):
    for name in "abc":
        volume_writer(tmp_path / "data" / f"{name}.h5", seed=ord(name), **SMALL)
    return tmp_path / "data"


def edit(path, key="kspace", i=0, keep_time=False):
    """Changes the samples of a slice a little, in place and behind HDF5's back, as another machine would."""
    before = path.stat()
    with h5py.File(path) as file:
        values, offset = file[key][i], file[key].id.get_offset()
    with path.open("r+b") as raw:
        raw.seek(offset + i * values.nbytes)
        assert raw.read(values.nbytes) == values.tobytes()
        raw.seek(offset + i * values.nbytes)
        raw.write((values * np.float32(1.0001)).tobytes())
    later = before.st_mtime_ns if keep_time else before.st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
    assert path.stat().st_size == before.st_size


CHANGES = {
    "shorter": (lambda path: os.truncate(path, 5000), r"it had \d+ bytes and has 5000"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), r"it had \d+ bytes and has \d+"),
    "edited": (edit, r"it was last written at \d{4}-.*, now at \d{4}-"),
    "gone": (lambda path: path.unlink(), "it is gone"),
    "replaced": (lambda path: shutil.copy(path.with_name("c.h5"), path), "it was last written at"),
}


@pytest.mark.parametrize("way", CHANGES)
@pytest.mark.parametrize("is_open", [True, False])
def test_no_samples_of_a_changed_file_are_given(folder, way, is_open):
    change, says = CHANGES[way]
    volume = list_volumes(folder)[1]
    check_volumes([volume])
    if is_open:
        volume.kspace(0)
    change(volume.path)
    for read in (volume.kspace, volume.target):
        with pytest.raises(DataChangedError, match=rf"^b\.h5: changed after it was checked, {says}.*; put it back"):
            read(4)


def test_zeros_of_a_shorter_file_are_what_hdf5_gives(folder):
    """The fault that the state of the file is compared for: an open file gives them without an error."""
    path = folder / "a.h5"
    with h5py.File(path) as file:
        assert np.abs(file["kspace"][4]).min() > 0
        os.truncate(path, 5000)
        assert not file["kspace"][3].any()


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_no_batch_of_it(folder, workers):
    dataset = SliceDataset(folder, transform=to_image)
    edit(folder / "b.h5")
    batches = load_batches(dataset, [[0], [1], [5]], workers, seed=0)
    assert [*next(batches).volume, *next(batches).volume] == ["a.h5", "a.h5"]
    with pytest.raises(DataChangedError, match=r"^b\.h5: changed"):
        next(batches)


def test_a_plain_loader_whose_workers_are_born_later_sees_it_too(folder):
    dataset = pickle.loads(pickle.dumps(SliceDataset(folder, transform=to_image)))
    edit(folder / "c.h5")
    with pytest.raises(DataChangedError, match=r"c\.h5: changed"):
        list(DataLoader(dataset, batch_size=None, num_workers=1))


def test_a_file_written_before_its_first_reading_is_another_file_but_not_a_changed_one(folder):
    volume = list_volumes(folder)[0]
    edit(volume.path)
    assert volume.kspace(0).any()
    require_unchanged([volume])


def test_all_files_are_compared_without_reading(folder):
    volumes = list_volumes(folder)
    check_volumes(volumes)
    require_unchanged(volumes)
    edit(folder / "c.h5")
    with pytest.raises(DataChangedError, match=r"^c\.h5: "):
        require_unchanged(volumes)


def test_references_and_predictions_that_change_are_not_scored(folder):
    reference = list_references(folder)[2]
    search_images([[reference]])
    os.truncate(reference.path, 5000)
    with pytest.raises(DataChangedError, match=r"^target c\.h5: changed after it was checked"):
        reference.image(4)


def recorded(folder, mode, to):
    volumes = list_volumes(folder)
    check_volumes(volumes, mode)
    write_record(to, volumes)
    return read_record(to)


def checked(folder, mode):
    volumes = list_volumes(folder)
    check_volumes(volumes, mode)
    return volumes


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_a_copy_is_the_same(folder, tmp_path, mode):
    rows = recorded(folder, mode, tmp_path / "data.csv")
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    copies = checked(tmp_path / "copy", mode)
    assert first_difference(rows, copies) == ""
    assert half_known(rows, copies) == (0 if mode == "full" else 3)
    assert half_known(rows, checked(folder, mode)) == 0


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("key", ["kspace", "reconstruction_rss"])
@pytest.mark.parametrize(("mode", "i"), [("full", 0), ("full", 4), ("quick", 2)])
def test_an_edited_file_is_another(folder, tmp_path, mode, i, key, keep_time):
    rows = recorded(folder, mode, tmp_path / "data.csv")
    edit(folder / "b.h5", key, i, keep_time)
    when = "" if keep_time else r" \(last written at [^,]+, then at [^)]+\)"
    text = first_difference(rows, checked(folder, mode))
    assert re.fullmatch(rf"b\.h5 has other samples than then{when} \(1 of 3 files\)", text)


def test_other_attributes_files_and_sizes_are_told(folder, tmp_path, volume_writer):
    rows = recorded(folder, "full", tmp_path / "data.csv")
    volume_writer(folder / "a.h5", seed=ord("a"), acquisition="AXT1", **SMALL)
    assert first_difference(rows, checked(folder, "full")).startswith("a.h5 has another header, mask or attributes")
    volume_writer(folder / "a.h5", seed=1, **{**SMALL, "n_slices": 6})
    assert first_difference(rows, checked(folder, "full")).startswith("a.h5 had ")
    (folder / "b.h5").rename(folder / "d.h5")
    assert first_difference(rows, checked(folder, "full")).startswith("b.h5 is not there any more (3 of 4 files)")
    assert first_difference(rows[:2], checked(folder, "full")[1:2]) == "a.h5 is not there any more (3 of 3 files)"
    assert first_difference(rows[2:], checked(folder, "full")[1:]) == "d.h5 is new (1 of 2 files)"


@pytest.mark.parametrize(
    "content", ["volume,bytes\na,b\n", "volume,bytes,changed_ns,about,middle,all\na,x,1,,,\n", "x\n"]
)
def test_a_damaged_record_is_told(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_text(content + "a\n")
    with pytest.raises(InputError, match=r"data\.csv is damaged"):
        read_record(path)
