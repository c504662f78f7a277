"""SIGTERM and SIGHUP leave no unfinished folder, and the next one is heard as the system hears it."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest

from mrirecon.cli.command import run_safely
from mrirecon.files import new_folder
from mrirecon.runs import RunFolder
from mrirecon.termination import listening
from mrirecon.training.checkpoints.read import load_checkpoint

EVALUATE = [sys.executable, "-m", "mrirecon", "evaluate", "zero-filled", "--split", "all", "--device", "cpu"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_unfinished_work_goes(tmp_path, capsys, number, code):
    def work():
        with new_folder(tmp_path / "out") as folder:
            (folder / "half").touch()
            signal.raise_signal(number)

    before = signal.getsignal(number)
    assert run_safely(work, debug=False) == code
    assert capsys.readouterr().err == f"mrirecon: ended by {number.name}\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before


def test_a_signal_that_python_drops_is_not_lost():
    """What a handler raises while a `__del__` runs goes nowhere."""

    class Noisy:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def work():
        Noisy()
        time.sleep(20)

    began = time.monotonic()
    assert run_safely(work, debug=False) == 143
    assert time.monotonic() - began < 10


def test_nohup_is_heeded():
    """Who ignores SIGHUP from its start goes on ignoring it: in a command, a training and its loader's workers."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_safely(lambda: signal.raise_signal(signal.SIGHUP), debug=False) == 0
        with listening() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def on_a_terminal_that_is_lost(words, when):
    """Run a command on a terminal of its own, which goes when `when` was printed there; gives the exit code."""
    process, terminal = pty.fork()
    if not process:
        os.execv(sys.executable, [sys.executable, "-m", "mrirecon", *words])
    termios.tcsetwinsize(terminal, (24, 120))
    said, end = b"", time.monotonic() + 120
    while when not in said:
        assert time.monotonic() < end, said
        if select.select([terminal], [], [], 1)[0]:
            said += os.read(terminal, 1000)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.fixture
def data(tmp_path, volume_writer):
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        volume_writer(tmp_path / "data" / split / f"{split}.h5", matrix=(32, 32), patient_id=split, seed=0)
    return str(tmp_path / "data")


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_whose_terminal_is_lost_is_saved(tmp_path, data, processes):
    run = RunFolder(tmp_path / "run")
    words = ["--data", data, "--channels", "4", "--pools", "2", "--max-steps", "100000", "--val-every", "5"]
    words += ["--workers", "1", "--device", "cpu", "--devices", str(processes), "-o", str(run.path)]
    assert on_a_terminal_that_is_lost(["train", *words], b"step 5/") == 75
    step = load_checkpoint(run.checkpoint("last"))["global_step"]
    assert 5 <= step < 100000


def test_an_evaluation_whose_terminal_is_lost_leaves_nothing(tmp_path, data):
    words = ["evaluate", "zero-filled", "--data", data, "-o", str(tmp_path / "out" / "of"), "--mask-draws", "100000"]
    assert on_a_terminal_that_is_lost(words, b"draw 1") == 129
    assert list((tmp_path / "out").iterdir()) == []


def test_a_handler_that_is_there_stays():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        assert run_safely(lambda: signal.raise_signal(signal.SIGTERM), debug=False) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_other_threads_may_run_commands():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run_safely(lambda: None, debug=False)))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_real_evaluation_leaves_nothing(tmp_path, volume_writer, n):
    volume_writer(tmp_path / "data" / "a.h5")
    words = ["--data", "data", "-o", "out/of", "--mask-draws", "100000", "--devices", str(n)]
    with subprocess.Popen([*EVALUATE, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        next(line for line in process.stderr if "draw 1" in line)
        assert [path.name.startswith(".of.") for path in (tmp_path / "out").iterdir()] == [True]
        process.terminate()
        said = process.stderr.read()
    assert process.returncode == 143
    assert said.splitlines()[-1].endswith("ended by SIGTERM")
    assert list((tmp_path / "out").iterdir()) == []
