"""SIGTERM leaves no unfinished folder, and the next one is heard as the system hears it."""

import signal
import subprocess
import sys
import threading

import pytest

from mrirecon.cli.command import run_safely
from mrirecon.workflows.new_folder import new_folder

EVALUATE = [sys.executable, "-m", "mrirecon", "evaluate", "zero-filled", "--split", "all", "--device", "cpu"]


def test_unfinished_work_goes(tmp_path, capsys):
    def work():
        with new_folder(tmp_path / "out") as folder:
            (folder / "half").touch()
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert run_safely(work, debug=False) == 143
    assert capsys.readouterr().err == "mrirecon: ended by SIGTERM\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


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
