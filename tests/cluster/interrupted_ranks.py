"""Runs the program as several processes, of which some get a signal at a chosen point; and compares runs."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from mrirecon.runs import RunFolder

TIMES = {"seconds", "slices_per_s"}


class Forking:
    """A process that has imported everything and forks itself into those that are asked for: an import takes longer.

    It is a fresh one, for threads that have worked do not survive a fork.
    """

    def __init__(self):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, n, words, number="SIGTERM", point="", at=0, who=()):
        """Exit codes (a signal's number, negative) and words of `mrirecon words` in `n` processes.

        Where one was killed, the others are too.

        Args:
            n: How many.
            words: The command.
            number: A signal's name.
            point: batch (is about to be computed) or validation (a batch of it); empty: none.
            at: Number of the batch, or the step that is validated.
            who: Ranks that get the signal.
        """
        print(json.dumps([n, words, number, point, at, list(who)]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def assert_same_run(one, other):
    """Bit for bit: both checkpoints and the curves, but for times."""
    for which in ("last", "best"):
        assert_equal(*(_without_times(torch.load(run.checkpoint(which), weights_only=True)) for run in (one, other)))
    assert _rows(one) == _rows(other)


def assert_equal(a, b, where="checkpoint"):
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}.{i}")
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, where


def _without_times(checkpoint):
    """How often loops were entered, and the clock of the curves, differ after a stop."""
    callbacks = {
        name: {key: value for key, value in state.items() if key not in TIMES}
        for name, state in checkpoint["callbacks"].items()
    }
    kept = {key: value for key, value in checkpoint.items() if key != "loops"}
    return {**kept, "callbacks": callbacks}


def _rows(run: RunFolder):
    with run.curves.open() as handle:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(handle)]


def _serve():
    answers, sys.stdout = sys.stdout, sys.stderr
    import mrirecon.workflows.train  # noqa: F401 - once for all

    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_run(Path(folder), *json.loads(line))), file=answers, flush=True)


def _run(folder, n, words, number, point, at, who):
    def fork(rank):
        process = os.fork()
        if not process:
            _become(rank, n, folder)
            if rank in who:
                _send_when_there(signal.Signals[number], point, at)
            from mrirecon.cli import main

            code = main(words)
            sys.stderr.flush()
            os._exit(code)
        return process

    codes = _wait({rank: fork(rank) for rank in range(n)}, time.monotonic() + 240)
    return codes, [(folder / f"{rank}.txt").read_text() for rank in range(n)]


def _become(rank, n, folder):
    words = os.open(folder / f"{rank}.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(words, 1)
    os.dup2(words, 2)
    if n > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n)}
        os.environ["MRIRECON_MEETING"] = str(folder / "meeting")


def _wait(running, until):
    codes = {}
    while running:
        for rank, process in list(running.items()):
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                del running[rank]
                codes[rank] = os.waitstatus_to_exitcode(status)
        if -signal.SIGKILL in codes.values() or time.monotonic() > until:
            for process in running.values():
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    return [codes[rank] for rank in sorted(codes)]


def _send_when_there(number, point, at):
    from mrirecon.training.loop.validation import Validation
    from mrirecon.training.module import ReconModule

    if point == "batch":
        original = ReconModule.on_train_batch_start

        def arriving(self, batch, batch_idx):
            if batch_idx == at:
                os.kill(os.getpid(), number)
            original(self, batch, batch_idx)

        ReconModule.on_train_batch_start = arriving
    else:
        scored = Validation._score_batch

        def scoring(self, score, module, *rest):
            if module.global_step == at:
                os.kill(os.getpid(), number)
            scored(self, score, module, *rest)

        Validation._score_batch = scoring


if __name__ == "__main__":
    _serve()
