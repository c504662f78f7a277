"""Within `sharing_volumes` the works of a process use one `Volume` per file, and read and check each file once."""

import h5py
import numpy as np
import pytest

from mrirecon.config import DataConfig
from mrirecon.data import volume as volume_module
from mrirecon.data.folders.folder import open_split
from mrirecon.data.folders.volume_files import list_volumes, sharing_volumes
from mrirecon.data.loading.datamodule import ReconDataModule
from mrirecon.errors import InputError

SMALL = {"n_slices": 3, "n_coils": 2, "matrix": (16, 16)}


@pytest.fixture
def folder(tmp_path, volume_writer):
    """Nine patients in one folder."""
    for i in range(9):
        volume_writer(tmp_path / f"v{i}.h5", seed=i, **SMALL)
    return tmp_path


class Tally:
    """Names that this process and its forks append; a file, as memory is not shared."""

    def __init__(self, path):
        self.path = path
        path.touch()

    def append(self, name):
        with self.path.open("a") as file:
            file.write(f"{name}\n")

    def __len__(self):
        return len(self.path.read_text().splitlines())


@pytest.fixture
def reads(monkeypatch, tmp_path_factory):
    """Names of the files whose structure (facts) or samples (kspace, target) were read, one entry a read."""
    place = tmp_path_factory.mktemp("reads")
    found = {kind: Tally(place / kind) for kind in ("facts", "samples")}
    facts = volume_module.read_facts

    def counting_facts(path, name):
        found["facts"].append(name)
        return facts(path, name)

    monkeypatch.setattr(volume_module, "read_facts", counting_facts)

    def counting(read):
        def counting_read(path, name, *rest):
            found["samples"].append(name)
            return read(path, name, *rest)

        return counting_read

    for how in ("read_slice", "read_image"):
        monkeypatch.setattr(volume_module, how, counting(getattr(volume_module, how)))
    return found


def open_all(folder, seed=0, **config):
    data = DataConfig(path=str(folder), **config)
    module = ReconDataModule(data, seed=seed)
    return [*module.train_volumes, *module.val_volumes, *open_split(data, "test", seed)]


def test_every_file_is_read_and_checked_once(folder, reads):
    with sharing_volumes():
        first = open_all(folder)
        counts = {kind: len(names) for kind, names in reads.items()}
        assert counts == {"facts": 9, "samples": 9 * 2 * 3}  # k-space and reference of every slice
        second = open_all(folder)
        assert {kind: len(names) for kind, names in reads.items()} == counts
    assert all(a is b for a, b in zip(first, second, strict=True))


def test_other_seeds_and_selections_share_too(folder, reads):
    with sharing_volumes():
        by_name = {volume.name: volume for volume in open_all(folder)}
        n_reads = len(reads["samples"])
        others = [*open_all(folder, seed=3), *open_all(folder, volumes=2, slices=[0, 1], acceleration=[8])]
        assert len(reads["samples"]) == n_reads
    assert all(by_name[volume.name] is volume for volume in others)


def test_it_changes_no_sample(folder):
    def samples():
        return [s for batch in ReconDataModule(DataConfig(path=str(folder))).train_dataloader() for s in batch.image]

    plain = samples()
    with sharing_volumes():
        for _ in range(2):
            for a, b in zip(plain, samples(), strict=True):
                np.testing.assert_array_equal(a, b)


def test_outside_nothing_is_shared(folder, reads):
    with sharing_volumes():
        inside = open_all(folder)
    again = open_all(folder)
    assert not {id(volume) for volume in inside} & {id(volume) for volume in again}
    assert len(reads["facts"]) == 9 + 2 * 9  # the second time train and test are opened one after the other


def test_one_inside_another_shares_with_it(folder):
    with sharing_volumes():
        outer = list_volumes(folder)
        with sharing_volumes():
            inner = list_volumes(folder)
        after = list_volumes(folder)
    assert outer == inner == after


def test_a_file_that_changed_is_read_anew(folder, volume_writer):
    with sharing_volumes():
        before = list_volumes(folder)
        old = before[0].kspace(0)
        written = folder / "new.h5"
        volume_writer(written, seed=77, **{**SMALL, "n_slices": 4})
        written.replace(folder / "v0.h5")
        after = list_volumes(folder)
        assert after[0].n_slices == 4
        assert not np.array_equal(after[0].kspace(0), old)
        assert after[1:] == before[1:]


def test_a_bad_file_is_reported_every_time(folder):
    with h5py.File(folder / "v4.h5", "r+") as file:
        file["kspace"][1, 0, 0, 0] = np.nan
    with sharing_volumes():
        for _ in range(2):
            with pytest.raises(InputError, match=r"v4\.h5: kspace holds NaN"):
                open_split(DataConfig(path=str(folder)), "all", 0)


def test_a_quick_check_does_not_stand_for_a_full_one(folder):
    with h5py.File(folder / "v4.h5", "r+") as file:
        file["kspace"][0, 0, 0, 0] = np.nan
    with sharing_volumes():
        open_split(DataConfig(path=str(folder), check="quick"), "all", 0)
        with pytest.raises(InputError, match=r"v4\.h5: kspace holds NaN"):
            open_split(DataConfig(path=str(folder), check="full"), "all", 0)


def test_a_link_to_nothing_is_reported_as_outside(folder):
    (folder / "v9.h5").symlink_to(folder / "gone.h5")
    with pytest.raises(InputError) as outside:
        open_split(DataConfig(path=str(folder)), "all", 0)
    with sharing_volumes(), pytest.raises(InputError) as inside:
        open_split(DataConfig(path=str(folder)), "all", 0)
    assert str(inside.value) == str(outside.value)
