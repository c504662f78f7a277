"""Start the processes of one machine, watch them, and end them all when one fails.

torchrun does much of this, but answers each failure with its own page of text and exit code 1; here the exit codes and
the one line of the command that failed come through, and a stopped run has time to save.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from mrirecon.cluster.join import MEETING, PARENT
from mrirecon.termination import STOP_SIGNALS, heeded, leave_lost_terminal, signal_words

REPORTS = "MRIRECON_REPORTS"  # folder for the error of each process, in place of stderr
_LOOK_S = 0.05
_STOPPED, _INTERRUPTED = 75, 130
# seconds between the first failure, SIGTERM and SIGKILL for the others; a stopped run has a state to save
_TO_SIGTERM, _TO_SIGTERM_STOPPED, _TO_SIGKILL = 8.0, 30.0, 15.0


@dataclass
class _Job:
    """The processes by rank, and what became of them."""

    processes: "list[subprocess.Popen[bytes]]"
    failed: dict[int, float] = field(default_factory=dict)  # when it was noticed, in the order of their end
    terminated: set[int] = field(default_factory=set)  # by us
    passed_on: list[int] = field(default_factory=list)  # signals


def launch(command: Sequence[str], n: int) -> tuple[int, str]:
    """Run `command` as `n` processes that know their rank; returns an exit code and what to say.

    They find their places in the variables of torchrun (https://docs.pytorch.org/docs/stable/elastic/run.html).
    Signals are passed on to all. When one fails the others have some seconds to notice, then they are ended. The
    exit code and the words are those of the process that failed first.
    """
    with tempfile.TemporaryDirectory(prefix="mrirecon-") as folder:
        job = _Job([_start(command, rank, n, Path(folder)) for rank in range(n)])

        def pass_on(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGHUP:
                leave_lost_terminal()
            job.passed_on.append(number)
            for process in job.processes:
                with suppress(ProcessLookupError):
                    process.send_signal(number)

        old = {number: signal.signal(number, pass_on) for number in heeded(*STOP_SIGNALS)}
        try:
            _watch(job)
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            for process in job.processes:
                if process.poll() is None:
                    process.kill()
        return _outcome(job, Path(folder))


def report_error(code: int, text: str) -> bool:
    """Leave a process's error for the launcher; False where there is none, and the error is to be printed."""
    folder = os.environ.get(REPORTS)
    if not folder or not Path(folder).is_dir():
        return False
    path = Path(folder) / f"{os.environ['RANK']}.json"
    path.write_text(json.dumps({"time": time.time(), "code": code, "text": text}))
    return True


def _start(command: Sequence[str], rank: int, n: int, folder: Path) -> "subprocess.Popen[bytes]":
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n}
    env = {**os.environ, **{name: str(value) for name, value in place.items()}}
    env |= {MEETING: str(folder / "meeting"), REPORTS: str(folder), PARENT: str(os.getpid())}
    env.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the end of one process is no news from all others
    env.setdefault("OMP_WAIT_POLICY", "passive")  # more threads than cores must not wait in circles
    if Path("/sys/class/net/lo").exists():
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host name that does not resolve is no obstacle
    return subprocess.Popen(
        list(command),
        env=env,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the launcher alone, which passes it on once
    )


def _watch(job: _Job) -> None:
    """Wait for the end of all; once one has failed, with limited patience."""
    while running := [rank for rank, process in enumerate(job.processes) if process.poll() is None]:
        _note_failures(job)
        first, since = next(iter(job.failed.items()), (None, time.monotonic()))
        waited = time.monotonic() - since
        limit = _TO_SIGTERM if first is None or _code(job, first) != _STOPPED else _TO_SIGTERM_STOPPED
        for rank in running:
            if waited > limit + _TO_SIGKILL:
                job.processes[rank].kill()
            elif waited > limit and rank not in job.terminated:
                job.terminated.add(rank)
                job.processes[rank].terminate()
        time.sleep(_LOOK_S)
    _note_failures(job)


def _note_failures(job: _Job) -> None:
    now = time.monotonic()
    for rank in range(len(job.processes)):
        if _code(job, rank):
            job.failed.setdefault(rank, now)


def _code(job: _Job, rank: int) -> int:
    return job.processes[rank].returncode or 0


def _outcome(job: _Job, folder: Path) -> tuple[int, str]:
    """Find the process to blame: one that ended without a word (killed, for example) caused what others told.

    But not what a process that had ended before it told; else it is who told an error first.
    """
    if not job.failed:
        return 0, ""
    reports = {rank: _report(folder / f"{rank}.json") for rank in job.failed}
    told = [(report["time"], rank) for rank, report in reports.items() if report]
    told_until = job.failed[min(told)[1]] if told else math.inf
    silent = [
        r for r, ended in job.failed.items() if not reports[r] and r not in job.terminated and ended <= told_until
    ]
    if silent:
        return _untold(job, silent[0])
    alike = _all_alike(reports)
    first = 0 if alike else min(told)[1]
    return _told(reports[first] or {}, first, len(job.processes), alike=alike and len(told) == len(job.processes))


def _untold(job: _Job, rank: int) -> tuple[int, str]:
    code, who = _code(job, rank), f"process {rank} of {len(job.processes)}"
    if code > 0:
        return code, f"{who} failed without a word; all others were stopped"
    if -code in job.passed_on:
        return 1, f"ended by {signal.Signals(-code).name}"
    return 1, f"{who} was ended by {signal_words(-code)}; all others were stopped"


def _told(report: dict[str, Any], rank: int, n: int, alike: bool) -> tuple[int, str]:
    """Join the last words of the processes; what all say is said once, else with the process that says it."""
    text = str(report["text"])
    return int(report["code"]), text if alike else f"process {rank} of {n}: {text}"


def _all_alike(reports: dict[int, dict[str, Any] | None]) -> bool:
    codes = {report["code"] if report else None for report in reports.values()}
    return 0 in reports and len(codes) == 1 and None not in codes and codes <= {2, _STOPPED, _INTERRUPTED}


def _report(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found


def rank_command(words: Sequence[str]) -> list[str]:
    """The command of one process: this program with the same words."""
    return [sys.executable, "-m", "mrirecon", *words]
