"""At no moment of a save is the folder without a sound checkpoint; what is read back wrong is not published."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
from killed_writes import Killed, death

from mrirecon.errors import InputError, WorkFailedError
from mrirecon.runs import RunFolder
from mrirecon.training.checkpoints import write as checkpoint_files
from mrirecon.training.checkpoints.read import load_checkpoint, sound_digest
from mrirecon.training.checkpoints.write import CheckpointFiles


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def save(run, step, which="last"):
    CheckpointFiles(run).save_checkpoint({"global_step": step}, run.checkpoint(which))


def accepted_step(path):
    """The step of a checkpoint whose bytes its hash file names, by hashlib alone; None: it is not accepted."""
    hashes = path.with_name(f"{path.name}.sha256")
    if not path.is_file() or not hashes.is_file():
        return None
    if hashlib.sha256(path.read_bytes()).hexdigest() not in [
        line.split()[0] for line in hashes.read_text().splitlines()
    ]:
        return None
    return torch.load(path, weights_only=True)["global_step"]


def newest(run):
    steps = [accepted_step(run.checkpoint(which)) for which in ("last", "previous")]
    return next((step for step in steps if step is not None), None)


def assert_tidy(run, *names):
    """These checkpoints, their hash files as coreutils read them, and nothing else."""
    files = {path.name for path in run.checkpoints.iterdir()}
    assert files == {f"{name}.ckpt{end}" for name in names for end in ("", ".sha256")}
    command = ["sha256sum", "--check", "--strict", "--quiet", *(f"{name}.ckpt.sha256" for name in names)]
    subprocess.run(command, cwd=run.checkpoints, check=True)


def test_the_one_before_is_kept_and_its_hash(run):
    for step in (1, 2, 3):
        save(run, step)
    save(run, 7, "best")
    assert_tidy(run, "last", "previous", "best")
    steps = {which: load_checkpoint(run.checkpoint(which))["global_step"] for which in ("last", "previous", "best")}
    assert steps == {"last": 3, "previous": 2, "best": 7}


def test_a_copy_of_best_is_a_last_like_any_other(run):
    save(run, 1)
    save(run, 2, "best")
    CheckpointFiles(run).copy_best()
    assert (accepted_step(run.checkpoint("last")), accepted_step(run.checkpoint("previous"))) == (2, 1)
    assert run.checkpoint("last").stat().st_ino != run.checkpoint("best").stat().st_ino  # one bad sector, one loss


def first(run):
    pass


def second(run):
    save(run, 1)


def third(run):
    save(run, 1)
    save(run, 2)


def of_an_earlier_version(run):
    """No hash files."""
    run.checkpoints.mkdir()
    torch.save({"global_step": 2}, run.checkpoint("last"))


def after_damage(run):
    third(run)
    content = run.checkpoint("last").read_bytes()
    run.checkpoint("last").write_bytes(content[:-100])


def step_without_hash(path):
    assert not path.with_name(f"{path.name}.sha256").exists()
    return torch.load(path, weights_only=True)["global_step"]


def n_changes(run, prepare):
    prepare(run)
    with death(run.checkpoints) as dying:
        save(run, 9)
    shutil.rmtree(run.checkpoints)
    return dying.n


@pytest.mark.parametrize("prepare", [first, second, third, of_an_earlier_version, after_damage])
def test_killed_before_any_change_a_sound_checkpoint_is_there(run, prepare):
    n = n_changes(run, prepare)
    assert n > 3
    for number in range(1, n + 1):
        prepare(run)
        before = 2 if prepare is of_an_earlier_version else newest(run)
        with pytest.raises(Killed), death(run.checkpoints, number):
            save(run, 9)
        found = newest(run)
        if found is None and prepare is of_an_earlier_version:
            found = step_without_hash(run.checkpoint("last"))
        assert found in (before, 9), number
        assert prepare is first or found is not None, number
        save(run, 10)
        assert accepted_step(run.checkpoint("last")) == 10
        assert accepted_step(run.checkpoint("previous")) == found
        shutil.rmtree(run.checkpoints)


@pytest.mark.parametrize(
    ("prepare", "every"),
    [(third, 5), pytest.param(second, 1, marks=pytest.mark.slow), pytest.param(third, 1, marks=pytest.mark.slow)],
)
def test_killed_twice_at_any_two_changes(run, prepare, every):
    n = n_changes(run, prepare)
    for one in range(2, n + 1, every):
        for two in count(1):
            prepare(run)
            with pytest.raises(Killed), death(run.checkpoints, one):
                save(run, 9)
            between = newest(run)
            try:
                with death(run.checkpoints, two):
                    save(run, 10)
            except Killed:
                assert newest(run) in (between, 10), (one, two)
                save(run, 11)
                assert newest(run) == 11
                assert accepted_step(run.checkpoint("previous")) is not None
                shutil.rmtree(run.checkpoints)
            else:
                shutil.rmtree(run.checkpoints)
                break


def test_killed_at_any_change_of_best(run):
    save(run, 1, "best")
    with death(run.checkpoints) as dying:
        save(run, 2, "best")
    for number in range(1, dying.n + 1):
        save(run, 1, "best")
        with pytest.raises(Killed), death(run.checkpoints, number):
            save(run, 2, "best")
        assert accepted_step(run.checkpoint("best")) in (1, 2), number
    save(run, 3, "best")
    assert_tidy(run, "best")


def test_killed_in_the_middle_of_the_write(run):
    """By the kernel, at a file size that the checkpoint passes; what it left is swept up."""
    third(run)
    code = (
        "import sys, resource, signal; from pathlib import Path\n"
        "from mrirecon.runs import RunFolder; from mrirecon.training.checkpoints.write import CheckpointFiles\n"
        "import torch\n"
        "state = {'global_step': 9, 'big': torch.zeros(100_000)}\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))\n"
        "CheckpointFiles(RunFolder(Path(sys.argv[1]))).save_checkpoint(state, sys.argv[1] + '/checkpoints/last.ckpt')\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(run.path)], check=False)
    assert process.returncode == -signal.SIGXFSZ
    (left,) = run.checkpoints.glob(".*")
    assert left.stat().st_size == 50_000
    assert newest(run) == 2
    save(run, 10)
    assert_tidy(run, "last", "previous")


def test_what_dead_processes_left_is_swept_up(run):
    save(run, 1)
    for name in (".best.ckpt.tmp", ".last.ckpt.sha256.4711.tmp"):
        (run.checkpoints / name).write_text("half")
    save(run, 2)
    assert_tidy(run, "last", "previous")


def test_a_disk_that_gives_back_something_else_publishes_nothing(run, monkeypatch):
    third(run)
    original = checkpoint_files._write

    def failing(write, path):
        digest = original(write, path)
        with path.open("r+b") as handle:
            handle.seek(path.stat().st_size // 2)
            handle.write(b"?")
        return digest

    monkeypatch.setattr(checkpoint_files, "_write", failing)
    with pytest.raises(WorkFailedError, match=r"last\.ckpt reads back other than it was written.*is kept"):
        save(run, 9)
    assert newest(run) == 2
    assert_tidy(run, "last", "previous")


def test_a_file_system_without_hard_links(run, monkeypatch):
    def refused(self, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    for step in (1, 2, 3):
        save(run, step)
    assert_tidy(run, "last", "previous")
    assert accepted_step(run.checkpoint("previous")) == 2


def test_everything_is_synced_before_it_is_named(run, monkeypatch):
    """The order that a power cut asks for: content, old name, hash of the new one, new name; each is on the disk."""
    said, sync, rename = [], os.fsync, Path.replace

    def fsync(handle):
        said.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))  # noqa: PTH119, PTH115
        sync(handle)

    def replace(self, target):
        said.append(("rename", Path(target).name))
        return rename(self, target)

    third(run)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    save(run, 9)
    assert said[0] == ("sync", ".last.ckpt.tmp")
    renames = [i for i, (what, _) in enumerate(said) if what == "rename"]
    names = ["previous.ckpt.sha256", "previous.ckpt", "last.ckpt.sha256", "last.ckpt", "last.ckpt.sha256"]
    assert [said[i][1] for i in renames] == names
    assert all(said[i + 1] == ("sync", "checkpoints") for i in renames[1:4])


@pytest.mark.parametrize("text", ["", "\0\xff" * 40, "0" * 64 + "  last.ckpt\n", "deadbeef  last.ckpt\n"])
def test_a_damaged_hash_file_accepts_nothing(run, text):
    save(run, 1)
    run.checkpoint("last").with_name("last.ckpt.sha256").write_text(text, encoding="latin-1")
    assert sound_digest(run.checkpoint("last")) is None
    with pytest.raises(InputError, match=r"last\.ckpt does not match its SHA-256 in last\.ckpt\.sha256; restore it"):
        load_checkpoint(run.checkpoint("last"))


def test_a_hash_of_another_file_does_not_count(run):
    save(run, 1)
    hashes = run.checkpoint("last").with_name("last.ckpt.sha256")
    hashes.write_text(hashes.read_text().replace("last.ckpt", "best.ckpt"))
    assert sound_digest(run.checkpoint("last")) is None


def test_a_checkpoint_that_is_replaced_while_it_is_opened_is_accepted(run, monkeypatch):
    """The hash file is read, then the training writes a new pair, then the checkpoint is opened."""
    from mrirecon.training.checkpoints import read as checkpoint_hashes

    save(run, 1)
    original = checkpoint_hashes.listed

    def listed(path):
        found = original(path)
        monkeypatch.setattr(checkpoint_hashes, "listed", original)
        save(run, 2)
        return found

    monkeypatch.setattr(checkpoint_hashes, "listed", listed)
    assert load_checkpoint(run.checkpoint("last"))["global_step"] == 2


def test_what_is_no_dictionary_is_no_checkpoint(run):
    run.checkpoints.mkdir()
    torch.save([1, 2], run.checkpoint("last"))
    with pytest.raises(InputError, match=r"last\.ckpt is damaged or no checkpoint of a training .*holds a list"):
        load_checkpoint(run.checkpoint("last"))
