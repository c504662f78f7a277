"""Runs the workers of a study and shows how far they are. No torch here."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from mrirecon import progress
from mrirecon.ablation.study.folder import Study
from mrirecon.ablation.work.status import Counts, count, progress_line
from mrirecon.cluster.submit import worker_command
from mrirecon.errors import Stopped
from mrirecon.progress import say
from mrirecon.termination import heeded, leave_lost_terminal, signal_words

_LOOK_S, _SAY_S = 0.25, 15.0


def run_local(study: Study, n_workers: int, threads: int) -> None:
    """Start workers on disjoint cores, or GPUs, and wait for them.

    Raises:
        Stopped: A signal came; the workers saved what they were at.
    """
    folder = study.folder
    folder.logs.mkdir(exist_ok=True)
    places = _places(n_workers, threads)
    logs = [folder.logs / f"worker-{os.getpid()}-{i}.log" for i in range(n_workers)]
    workers = [_start(study, log, place) for log, place in zip(logs, places, strict=True)]
    stopped: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_lost_terminal()
        stopped.append(number)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)

    asked = heeded(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    old = {number: signal.signal(number, stop) for number in asked}
    try:
        _watch(study, workers)
    except BaseException:
        for worker in workers:
            worker.terminate()
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    for worker, log in zip(workers, logs, strict=True):
        if worker.returncode and not stopped:
            say(f"worker      {_last_words(worker.returncode, log)}")
    if stopped:
        raise Stopped(f"stopped by {signal.Signals(stopped[0]).name}; go on with: mrirecon ablate run {folder.path}")


def default_workers(threads: int) -> int:
    """One per GPU, where there are any; else one per so many cores."""
    gpus = _gpus()
    return len(gpus) or max(1, len(os.sched_getaffinity(0)) // threads)


def _places(n_workers: int, threads: int) -> list[dict[str, str]]:
    """Environment and cores of each worker; more workers than cores share them all."""
    cores, gpus = sorted(os.sched_getaffinity(0)), _gpus()
    places = []
    for i in range(n_workers):
        place = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if gpus:
            place["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
        if n_workers * threads <= len(cores):
            place["cores"] = " ".join(map(str, cores[i * threads : (i + 1) * threads]))
        places.append(place)
    return places


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, without asking torch, which takes seconds to import."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i, _ in enumerate(devices.iterdir())] if devices.is_dir() else []


def _start(study: Study, log: Path, place: dict[str, str]) -> "subprocess.Popen[bytes]":
    cores = place.pop("cores", "").split()
    command = worker_command(study.folder.path) + (["--cores", *cores] if cores else [])
    with log.open("ab") as handle:
        return subprocess.Popen(
            command,
            stdout=handle,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **place},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops them once
        )


def _last_words(code: int, log: Path) -> str:
    """Why a worker ended: the signal, or the last line it wrote."""
    if code < 0:
        return f"ended by {signal_words(-code)}"
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"ended with code {code}")


def _watch(study: Study, workers: "Sequence[subprocess.Popen[bytes]]") -> None:
    began = said = time.monotonic()
    first: Counts | None = None
    while any(worker.poll() is None for worker in workers):
        time.sleep(_LOOK_S)
        if progress.quiet or time.monotonic() - said < (1.0 if sys.stderr.isatty() else _SAY_S):
            continue
        said = time.monotonic()
        now = count(study)
        first = first or now
        line = progress_line(now, now.done - first.done, said - began)
        print(
            f"\r\033[K{line}" if sys.stderr.isatty() else line, end="" if sys.stderr.isatty() else "\n", file=sys.stderr
        )
        sys.stderr.flush()
    if sys.stderr.isatty() and not progress.quiet:
        print(file=sys.stderr)
