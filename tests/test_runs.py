"""Run folders are made, found and protected."""

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from mrirecon import runs
from mrirecon.errors import InputError
from mrirecon.runs import RunFolder, RunLock, new_run, open_run


def test_new_run_refuses_a_folder_in_use(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        new_run(tmp_path, "x")
    with pytest.raises(InputError, match="not a run folder"):
        new_run(tmp_path, "x", overwrite=True)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_overwrite_replaces_a_run(tmp_path):
    run = new_run(tmp_path / "r", "x")
    run.config.write_text("seed: 1\n")
    again = new_run(tmp_path / "r", "x", overwrite=True)
    assert not again.config.exists()


def test_default_names_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {new_run("", "group-adam").path for _ in range(3)}
    assert len(names) == 3


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="is a file"):
        new_run(tmp_path / "f", "x")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_open_run_says_what_is_missing(tmp_path, make):
    make(tmp_path / "r")
    with pytest.raises(InputError, match="run folder"):
        open_run(tmp_path / "r")


def test_unknown_checkpoint(tmp_path):
    with pytest.raises(InputError, match="best or last"):
        RunFolder(tmp_path).checkpoint("bset")


def test_only_what_a_run_wrote_is_overwritten(tmp_path):
    """config.yaml is a common name: a project that has one is not a run."""
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis\.txt"):
        new_run(tmp_path, "x", overwrite=True)
    assert (tmp_path / "thesis.txt").is_file()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="cannot make the run folder"):
        new_run(tmp_path / "f" / "run", "x")


HOLD = (
    "import sys; from pathlib import Path; from mrirecon.runs import RunFolder, RunLock\n"
    "with RunLock(RunFolder(Path(sys.argv[1]))).held(print):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@contextmanager
def held_by_another_process(path):
    """Yields that process, which has the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_copy_of_a_run_in_use_is_in_nobodys_use(tmp_path):
    run = RunFolder(tmp_path / "r")
    with held_by_another_process(run.path) as process:
        shutil.copytree(run.path, tmp_path / "copy")
        with RunLock(RunFolder(tmp_path / "copy")).held(print):
            assert json.loads((tmp_path / "copy" / ".lock").read_text())["pid"] == os.getpid()
        assert json.loads(run.lock.read_text())["pid"] == process.pid


def of_another_host(path):
    """A lock as another host wrote it."""
    holder = {"host": "elsewhere", "space": "", "pid": 7, "born": "1", "token": "t"}
    path.write_text(json.dumps(holder))


def test_a_run_that_another_process_writes_is_in_use_until_it_ends(tmp_path):
    run = RunFolder(tmp_path / "r")
    with held_by_another_process(run.path) as process:
        line = f"r is in use: process {process.pid} on {socket.gethostname()} writes it; wait for its end or stop it"
        with pytest.raises(InputError, match=line), RunLock(run).held(print):
            pytest.fail("two hold it")
        run.config.write_text("")
        for overwrite in (False, True):
            with pytest.raises(InputError, match="is in use"):
                new_run(run.path, "x", overwrite)
        assert open_run(run.path).path == run.path  # whoever reads needs no lock
        process.stdin.close()
        process.wait(20)
    with RunLock(run).held(print):
        assert new_run(run.path, "x", overwrite=True).lock.is_file()
    assert list(run.path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path):
    run, said = RunFolder(tmp_path / "r"), []
    with held_by_another_process(run.path) as process:
        process.kill()
        process.wait(20)
    assert run.lock.is_file()
    with RunLock(run).held(said.append):
        assert json.loads(run.lock.read_text())["pid"] == os.getpid()
    assert not said


def test_the_lock_of_another_host_that_is_silent_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_LOCK_LIMIT_S", 0.6)
    run, said = RunFolder(tmp_path), []
    of_another_host(run.lock)
    os.utime(run.lock, (4e9, 4e9))  # its clock is wrong
    with RunLock(run).held(said.append):
        assert json.loads(run.lock.read_text())["pid"] == os.getpid()
    assert said == [
        f"note: process 7 on elsewhere began to write {tmp_path} and may still; waiting 1 s for a sign of life"
    ]


def test_the_lock_of_another_host_that_gives_signs_of_life_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_LOCK_LIMIT_S", 3.0)
    run = RunFolder(tmp_path)
    of_another_host(run.lock)
    beats = iter(range(1000))

    def beat(_line):
        os.utime(run.lock, (next(beats), 1))

    with pytest.raises(InputError, match="in use: process 7 on elsewhere"), RunLock(run).held(beat):
        pytest.fail("two hold it")
    assert json.loads(run.lock.read_text())["token"] == "t"


def test_the_lock_of_a_stranger_says_nothing_to_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_LOCK_LIMIT_S", 0.2)
    run, said = RunFolder(tmp_path), []
    run.lock.write_text(json.dumps({"host": "\x1b[2Jx", "pid": 3}))
    with RunLock(run).held(said.append):
        assert said[0].startswith("note: another process began")
