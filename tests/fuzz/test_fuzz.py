"""Mutated files of every class: refused in a line, or read rightly; and the judge of that sees what is wrong."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fuzz_case import Case, run_case
from kinds import KINDS
from limited_child import run_limited

from mrirecon.classical import ZeroFilled

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fuzz.py"


def campaign(tmp_path, hdf5, checkpoint, yaml, by_shell, seconds):
    """Rows of the table: kind, class, cases, exits with 0, 2 and 1, texts, faults."""
    numbers = ["--hdf5", hdf5, "--checkpoints", checkpoint, "--yaml", yaml, "--by-shell", by_shell]
    words = [sys.executable, SCRIPT, *map(str, numbers), "--keep", tmp_path / "failures"]
    done = subprocess.run(
        words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(
        r"^(hdf5|checkpoint|yaml|all) +(.*?) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", done.stdout, re.M
    )
    return [(kind, name, *map(int, counts)) for kind, name, *counts in rows]


def test_two_hundred_of_all_classes(tmp_path):
    rows = campaign(tmp_path, 120, 48, 32, by_shell=2, seconds=400)
    classes = {(kind, name) for kind, name, *_ in rows[:-1]}
    assert classes == {(kind, name) for kind, module in KINDS.items() for name in module.CLASSES}
    _, _, cases, done, refused, failed, texts, faults = rows[-1]
    assert (cases, done + refused + failed, faults) == (202, 202, 0)
    assert failed <= 2  # trainings that diverge from other numbers
    assert done > 40  # not everything is refused,
    assert refused > 60
    assert texts > 40  # nor all for one reason


@pytest.mark.slow
def test_all_of_them(tmp_path):
    rows = campaign(tmp_path, 2000, 300, 200, by_shell=20, seconds=1800)
    assert rows[-1][2] == 2520
    assert rows[-1][-1] == 0
    by_nature = {"truncated", "nesting", "key names"}  # no such file can be right
    assert {name for kind, name, _, done, *_ in rows if not done} <= by_nature
    assert all(texts > 1 for *_, texts, _ in rows)


SOUND = Case("hdf5", "appended", 1, 0)


def fault(case=SOUND, seconds=10.0):
    return run_case(case, KINDS[case.kind], seconds=seconds).fault


@pytest.fixture(scope="module")
def imported():
    KINDS["hdf5"].warm_up()


@pytest.fixture
def sound_input(imported, monkeypatch):
    """Cases are a file with nothing wrong."""
    monkeypatch.setattr("hdf5_cases.mutate", lambda _name, _rng: KINDS["hdf5"].sound())


def planted(monkeypatch, program):
    monkeypatch.setattr("mrirecon.cli.main", program)


@pytest.mark.usefixtures("sound_input")
def test_a_sound_file_is_reconstructed_and_scored():
    assert fault() == ""
    assert fault(Case("hdf5", "appended", 1, 4)) == ""  # every fifth is an evaluation


@pytest.mark.usefixtures("sound_input")
def test_the_judge_sees_a_traceback(monkeypatch):
    planted(monkeypatch, lambda words: 1 / 0)
    assert fault() == "unexpected error: ZeroDivisionError: division by zero"


@pytest.mark.usefixtures("sound_input")
def test_the_judge_sees_an_error_that_nobody_expected(monkeypatch):
    monkeypatch.setattr(ZeroFilled, "__call__", lambda self, sample: sample.nothing)
    assert "unexpected error: mrirecon: AttributeError" in fault()


@pytest.mark.usefixtures("sound_input")
def test_the_judge_sees_a_hang(monkeypatch):
    planted(monkeypatch, lambda words: time.sleep(60))
    assert fault(seconds=0.5) == "hang"


@pytest.mark.usefixtures("sound_input")
@pytest.mark.parametrize("number", [0, 4])
@pytest.mark.parametrize("wrong", [lambda image: image * 1.0001, lambda image: image.flip(-1), lambda image: image * 0])
def test_the_judge_sees_a_wrong_image(monkeypatch, wrong, number):
    monkeypatch.setattr(ZeroFilled, "__call__", lambda self, sample: wrong(sample.image))
    assert "wrong result: differs from the plain formula by" in fault(Case("hdf5", "appended", 1, number))


def refusing(text, code=2, leave=False):
    def program(words):
        if text:
            print(text, file=sys.stderr)
        if leave:
            Path("left.h5").write_text("half")
        return code

    return program


@pytest.mark.usefixtures("sound_input")
@pytest.mark.parametrize(
    ("program", "seen"),
    [
        (refusing("mrirecon: no"), ""),
        (refusing("mrirecon: no\nin two lines"), "a refusal of 2 lines"),
        (refusing("what?"), "a refusal of 1 lines: what?"),
        (refusing(""), "a refusal of 1 lines: "),
        (refusing("mrirecon: \x1b[2J"), "characters that control a terminal"),
        (refusing("mrirecon: no", leave=True), "a refusal that leaves ['child/left.h5']"),
        (refusing("mrirecon: no", code=1), "exit code 1: mrirecon: no"),
        (refusing("UserWarning: hm", code=0), "a success that says: UserWarning: hm"),
        (refusing("", code=0), "wrong result: "),  # it wrote nothing
        (lambda words: os.kill(os.getpid(), signal.SIGSEGV), "signal SEGV"),
        (lambda words: sys.exit(3), "unexpected error: SystemExit: 3"),
    ],
)
def test_the_judge_sees_a_wrong_end(monkeypatch, program, seen):
    planted(monkeypatch, program)
    assert seen in fault()
    assert bool(fault()) == bool(seen)


def test_memory_is_watched_in_children_of_the_child_too(tmp_path):
    def hungry():
        if os.fork() == 0:
            kept = bytearray(os.urandom(1000)) * 1_500_000  # more than the libraries that a fork does not count
            time.sleep(30)
            os._exit(len(kept) % 2)
        return os.wait()[1]

    own = int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    ended = run_limited(hungry, tmp_path, resident_bytes=own + 300 * 2**20)
    assert ended.killed == "memory"
    assert ended.seconds < 10
