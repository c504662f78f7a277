"""What checks keep between commands: unchanged files are not read again, changed ones are, damage does no harm."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrirecon.cli import main
from mrirecon.config import DataConfig
from mrirecon.data.folders import check
from mrirecon.data.folders.check import check_volumes
from mrirecon.data.folders.folder import open_split
from mrirecon.data.folders.volume_files import list_volumes
from mrirecon.data.hdf5 import limits, quarantine
from mrirecon.errors import InputError


@pytest.fixture
def folder(tmp_path, volume_writer, monkeypatch):
    """Three files that count as old, and an empty cache."""
    for i in range(3):
        volume_writer(tmp_path / "data" / f"{i}.h5", n_slices=3, n_coils=2, matrix=(16, 16), seed=i)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(check, "_TICK_S", -1e6)
    return tmp_path / "data"


@pytest.fixture
def examined(monkeypatch):
    """The labels of all jobs that were done."""
    seen = []
    original = quarantine._one_by_one

    def counting(jobs):
        seen.extend(job.label for job in jobs)
        return original(jobs)

    monkeypatch.setattr(quarantine, "_one_by_one", counting)
    return seen


def checked(folder, mode="auto"):
    """All that a check says, as plain values."""
    volumes = list_volumes(folder)
    notes = check_volumes(volumes, mode)
    facts = [json.dumps([v.facts.to_plain(), v.sampling.to_plain(), v.n_searched], sort_keys=True) for v in volumes]
    return notes, facts, [v.__dict__.get("data_range") for v in volumes]


def test_what_is_known_equals_what_is_read(folder, examined):
    anew = checked(folder)
    assert sorted(examined) == sorted([f"{i}.h5" for i in range(3)] * 2)  # structure, then samples
    examined.clear()
    assert checked(folder) == anew
    assert examined == []


def _rewrite(path):
    with h5py.File(path, "r+") as file:
        file["kspace"][0] *= 2


def _with_old_times(path):
    """As `cp -p` and editors that hide what they did leave it: size and date are the old ones."""
    stat = path.stat()
    _rewrite(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def _replaced(path):
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


@pytest.mark.parametrize("change", [_rewrite, _with_old_times, _replaced])
def test_a_changed_file_is_read_again(folder, examined, change):
    checked(folder)
    change(folder / "1.h5")
    examined.clear()
    checked(folder)
    assert set(examined) == {"1.h5"}


def test_a_file_that_went_bad_is_told(folder):
    checked(folder)
    with h5py.File(folder / "1.h5", "r+") as file:
        file["kspace"][1, 0, 0, 0] = np.nan
    for _ in range(2):  # bad files are never known
        with pytest.raises(InputError, match=r"1\.h5: .*NaN"):
            checked(folder)


def test_modes_do_not_answer_for_each_other(folder, examined):
    """What is said of a file must not depend on what was asked before."""
    quick = checked(folder, "quick")
    checked(folder, "full")
    examined.clear()
    assert checked(folder, "quick") == quick
    assert examined == []
    checked(folder, "none")
    assert sorted(examined) == [f"{i}.h5" for i in range(3)]


def test_none_searches_nothing_but_finds_the_samples(folder):
    with h5py.File(folder / "1.h5", "r+") as file:
        file["kspace"][0, 0, 0, 0] = np.nan
        file["reconstruction_rss"][:] *= 50
    notes, facts, ranges = checked(folder, "none")
    assert notes == ["no samples were searched for NaN, and no references compared with k-space (--check none)"]
    assert ranges == [None] * 3
    volumes = list_volumes(folder)
    assert [json.loads(one)[1] for one in facts] == [v.sampling.to_plain() for v in volumes]


def test_files_that_changed_just_now_are_not_kept(folder, examined, monkeypatch):
    monkeypatch.setattr(check, "_TICK_S", 1e6)
    checked(folder)
    examined.clear()
    checked(folder)
    assert len(examined) == 6


def test_another_limit_of_a_slice_is_another_question(folder, monkeypatch):
    checked(folder)
    monkeypatch.setattr(limits, "_slice_gib", [1e-9])
    with pytest.raises(InputError, match="more than the limit"):
        checked(folder)


def kept(folder):
    files = sorted((folder.parent / "cache" / "mrirecon").iterdir())
    assert len(files) == 2
    return files


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-20])


def _flip(file):
    """Still JSON, but another number."""
    file.write_bytes(file.read_bytes().replace(b'"shape":[3,', b'"shape":[9,').replace(b'"n_rows":', b'"n_rows":1'))


def _other_maker(file):
    head, body = file.read_text().split("\n", 1)
    file.write_text(json.dumps(json.loads(head) | {"made_by": "another version"}) + "\n" + body)


def _fifo(file):
    file.unlink()
    os.mkfifo(file)


def _list(file):
    body = "[1, 2]\n"
    head = {"made_by": check._made_by(), "sha256": check.sha256(body.encode()).hexdigest()}
    file.write_text(f"{json.dumps(head)}\n{body}")


DAMAGES = [_truncate, _flip, _other_maker, _fifo, _list, lambda file: file.write_bytes(b"")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_ignored(folder, examined, damage):
    anew = checked(folder)
    for file in kept(folder):
        damage(file)
    examined.clear()
    assert checked(folder) == anew
    assert len(examined) == 6


def _no_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))


def _nowhere(_tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")


def _no_home(_tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))


@pytest.mark.parametrize("place", [_no_folder, _nowhere, _no_home])
def test_a_cache_that_cannot_be_written_is_no_error(folder, examined, tmp_path, monkeypatch, place):
    place(tmp_path, monkeypatch)
    assert checked(folder) == checked(folder)
    assert len(examined) == 12


def test_no_cache_neither_reads_nor_writes(folder, tmp_path, examined):
    words = ["evaluate", "zero-filled", "--data", str(folder), "--split", "all", "--device", "cpu", "--figures", "0"]
    assert main([*words, "--output", str(tmp_path / "a"), "--no-cache"]) == 0
    assert limits.limit_words() == ["--no-cache"]  # for the workers of a study, and jobs
    assert not (tmp_path / "cache").exists()
    limits._cache_is_on[0] = True
    assert main([*words, "--output", str(tmp_path / "b")]) == 0
    assert kept(folder)
    examined.clear()
    assert main([*words, "--output", str(tmp_path / "c")]) == 0
    assert examined == []
    assert main([*words, "--output", str(tmp_path / "d"), "--no-cache"]) == 0
    assert len(examined) == 6


def test_selections_of_one_folder_share_what_is_known(folder, examined):
    open_split(DataConfig(path=str(folder)), "all", 0)
    examined.clear()
    for split in ("train", "val", "test"):
        open_split(DataConfig(path=str(folder)), split, 0)
    assert examined == []


def test_patients_names_are_the_owner_s_alone(folder):
    checked(folder)
    assert (folder.parent / "cache" / "mrirecon").stat().st_mode & 0o777 == 0o700
