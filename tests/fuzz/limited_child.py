"""A function in a forked child with limits, and how it ended: the parent survives whatever the child does."""

import faulthandler
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECONDS = 10.0
RESIDENT_BYTES = 2 * 2**30
_PROCESSES = 16  # more at once is no reader of one file
_OUTPUT_BYTES = 2**28
_BETWEEN_LOOKS_S = 0.02


@dataclass(frozen=True)
class Ended:
    """How a child ended: `code` is its exit code, or None where `killed` says why it has none."""

    code: int | None
    killed: str  # empty, "signal SEGV", "hang" or "memory"
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int  # resident, of its largest process


def run_limited(
    work: Callable[[], int | None], folder: Path, seconds: float = SECONDS, resident_bytes: int = RESIDENT_BYTES
) -> Ended:
    """Call `work` in a fork whose working directory is `folder`; what it returns is its exit code.

    The child ends with its whole process group: nothing that it started goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outputs = folder / "stdout.txt", folder / "stderr.txt"
    sys.stdout.flush()
    sys.stderr.flush()
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        pid = os.fork()
    if pid == 0:
        _be_the_child(work, folder, outputs, seconds)
    status, killed, peak = _watch(pid, start + seconds, resident_bytes)
    if not killed and os.WIFSIGNALED(status):
        killed = f"signal {signal.Signals(os.WTERMSIG(status)).name[3:]}"
    texts = [path.read_text(errors="replace") for path in outputs]
    code = None if killed else os.waitstatus_to_exitcode(status)
    return Ended(code, killed, *texts, time.monotonic() - start, peak)


def _be_the_child(work: Callable[[], int | None], folder: Path, outputs: tuple[Path, Path], seconds: float) -> None:
    code = 70
    try:
        os.setsid()
        _limit(seconds)
        for number, path in enumerate(outputs, 1):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
        os.chdir(folder)
        _as_a_fresh_interpreter()
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _limit(seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 5, int(seconds) + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_OUTPUT_BYTES, _OUTPUT_BYTES))


def _as_a_fresh_interpreter() -> None:
    """Undo what a test runner set up: its warnings, its handlers of signals and of crashes."""
    faulthandler.disable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)


def _watch(pid: int, deadline: float, resident_bytes: int) -> tuple[int, str, int]:
    """Wait for the child's end; end it, and all that it started, where it passes a limit."""
    killed, peak, status, done = "", 0, 0, 0
    while not done:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        family = _family(pid)
        peak = max([peak, *(_resident(member) for member in family)])
        if time.monotonic() > deadline:
            killed = "hang"
        elif peak > resident_bytes or len(family) > _PROCESSES:
            killed = "memory" if peak > resident_bytes else "processes"
        if killed:
            _end_group(pid)
            status = os.waitpid(pid, 0)[1]
            break
        time.sleep(_BETWEEN_LOOKS_S)
    _end_group(pid)
    return status, killed, peak


def _family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in _family(int(child)))]


def _resident(pid: int) -> int:
    """The most that a process has held, as the system counts it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
