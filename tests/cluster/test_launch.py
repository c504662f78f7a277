"""One process that fails ends the whole job soon, with its own words and code; signals reach all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mrirecon.cluster import join as launching
from mrirecon.cluster.join import launch

FAILING = str(Path(__file__).with_name("failing_ranks.py"))
KILLED = "SIGKILL (out of memory? lower --batch-size or --workers)"


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(launching, "_TO_SIGTERM", 2.0)
    monkeypatch.setattr(launching, "_TO_SIGKILL", 2.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run(*words, n=2):
    began = time.monotonic()
    code, text = launch([sys.executable, FAILING, *words], n)
    assert time.monotonic() - began < 60
    return code, text


@pytest.mark.parametrize(
    ("how", "which", "code", "text"),
    [
        ("exception", 1, 1, "process 1 of 2: RuntimeError: the cause (--debug shows where)"),
        slow("exception", 0, 1, "process 0 of 2: RuntimeError: the cause (--debug shows where)"),
        slow("memory", 1, 1, "process 1 of 2: MemoryError"),
        ("input", 1, 2, "process 1 of 2: file7.h5: is truncated"),
        ("killed", 0, 1, f"process 0 of 2 was ended by {KILLED}; all others were stopped"),
        slow("killed", 1, 1, f"process 1 of 2 was ended by {KILLED}; all others were stopped"),
        ("exit", 1, 3, "process 1 of 2 failed without a word"),
    ],
)
def test_the_first_error_is_told_and_the_others_end(how, which, code, text):
    found, said = run(how, str(which), "wait")
    assert found == code
    assert said.startswith(text)


def test_a_process_that_hangs_is_ended_too():
    assert run("exception", "1", "hang")[0] == 1


def test_what_all_say_is_said_once():
    assert run("input", "-1", "wait") == (2, "file7.h5: is truncated")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


_LAUNCHER = """
import sys
from mrirecon.cluster.join import launch
told = launch(sys.argv[1:], 2)
print(told)
sys.exit(told[0])
"""


def started():
    """A launcher whose two processes have met, and their process ids."""
    process = subprocess.Popen([sys.executable, "-c", _LAUNCHER, sys.executable, FAILING, "stop"], stdout=-1, text=True)
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    return process, [int(pid) for pid in children]


@pytest.mark.parametrize("target", ["launcher", slow("first"), "second"])
def test_a_signal_to_any_process_stops_all_with_75(target):
    process, children = started()
    os.kill({"launcher": process.pid, "first": children[0], "second": children[1]}[target], signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert out.strip() == "(75, 'stopped; go on')"


def test_a_killed_launcher_leaves_no_process_behind():
    process, children = started()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, children))
    process.stdout.close()


@pytest.mark.parametrize(
    ("ended", "code", "text"),
    [
        ({1: 1.0, 0: 5.0}, 2, "process 1 of 2: file7.h5: is truncated"),  # what it left behind ended the other one
        ({0: 1.0, 1: 1.0}, 1, "process 0 of 2 was ended by SIGABRT"),  # which the other one noticed
    ],
)
def test_what_came_first_is_told(tmp_path, ended, code, text):
    report = {"time": 1.0, "code": 2, "text": "file7.h5: is truncated"}
    (tmp_path / "1.json").write_text(json.dumps(report))
    processes = [SimpleNamespace(returncode=-signal.SIGABRT), SimpleNamespace(returncode=2)]
    found, said = launching._outcome(launching._Job(processes, ended), tmp_path)
    assert found == code
    assert said.startswith(text)
