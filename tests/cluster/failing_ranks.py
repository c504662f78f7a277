"""A command of which one process fails in the way that it is told; the others work on or wait for it."""

import os
import resource
import signal
import sys
import time
from types import SimpleNamespace

from mrirecon import ranks
from mrirecon.cli.command import run_safely
from mrirecon.cluster.join import joined
from mrirecon.errors import InputError, Stopped


def _exhaust_memory():
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    bytearray(2**33)


def _raise():
    raise RuntimeError("the cause")


def _wrong_input():
    raise InputError("file7.h5: is truncated")


FAILURES = {
    "exception": _raise,
    "memory": _exhaust_memory,
    "input": _wrong_input,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
}


def work(how: str, which: int, others: str) -> None:
    with joined(SimpleNamespace(devices=int(os.environ["WORLD_SIZE"]), num_nodes=1, device="cpu")):
        ranks.barrier()
        if ranks.rank() == which or which < 0:
            FAILURES[how]()
        if others == "hang":  # in a computation that talks to nobody
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        ranks.barrier()


def stop() -> None:
    """Waits for a signal on any process, then all say that they stopped."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    with joined(SimpleNamespace(devices=int(os.environ["WORLD_SIZE"]), num_nodes=1, device="cpu")):
        os.write(1, b"ready\n")  # in one piece
        while not ranks.any_of(bool(asked)):
            time.sleep(0.05)
        time.sleep(0.2 * ranks.rank())
        raise Stopped("stopped; go on")


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(run_safely(stop if words == ["stop"] else lambda: work(words[0], int(words[1]), words[2]), debug=False))
