"""Show the log of a SLURM job until it ends."""

import re
import sys
import time
from pathlib import Path

from mrirecon.cluster.jobs import GONE, find_job
from mrirecon.errors import WorkFailedError
from mrirecon.progress import say

_ERROR = "mrirecon: "  # begins an error of this program
_START = "Starting with JobEnvironment"  # submitit's first line, of each start of a job
_KILLED = re.compile(r"^srun: error: (\S+): tasks? (\S+): (?!Exited)(.+)$", re.MULTILINE)
_OTHERS_ENDED = re.compile("Terminating StepId|Job step aborted|CANCELLED AT")  # what follows is not a cause
_LOOK_S, _ASK_S, _PATIENCE_S = 0.5, 2.0, 600.0


def follow(job: str, log: Path) -> None:
    """Copy a job's log to standard output until the job ends, however often SLURM starts it again meanwhile.

    Raises:
        WorkFailedError: The job did not end well; the message is its last word. Or SLURM does not answer any more.
        KeyboardInterrupt: Ctrl-C; the job goes on, which is said.
    """
    try:
        state = _until_over(job, _Tail(log))
    except KeyboardInterrupt:
        say(f"job {job} goes on; its log is {log}; to end it: scancel {job}")
        raise
    if state != "COMPLETED":
        raise WorkFailedError(f"job {job} ended as {state}: {cause(log)}")


def cause(log: Path) -> str:
    """Return why a job failed, by the logs of its processes: one was killed, or was the first to end with an error.

    Args:
        log: Of the first process, JOB_0_log.out; those of the others stand beside it.
    """
    if killed := _KILLED.search(_OTHERS_ENDED.split(_text(log).rpartition(_START)[2])[0]):
        node, task, how = killed.groups()
        return f"process {task} on {node} was ended from outside: {how}{' (out of memory?)' * (how == 'Killed')}"
    job = log.name.split("_")[0]
    others = {path: _lines(path)[-1:] for path in log.parent.glob(f"{job}_*_log.out") if path != log}
    ended = [path for path, last in others.items() if last and last[0].startswith(_ERROR)]
    if any(line.startswith(_ERROR) for line in _lines(log)):
        ended.append(log)
    first = min(ended, key=lambda path: path.stat().st_mtime_ns, default=log)
    who = "" if first == log else f"process {first.name.split('_')[1]}: "
    return who + last_words(first)


def last_words(log: Path) -> str:
    """The last error of this program in a log, else its last line."""
    if not log.is_file():
        return f"it left no log ({log})"
    lines = _lines(log)
    errors = [line for line in lines if line.startswith(_ERROR)]
    return (errors or lines or [f"its log is empty ({log})"])[-1].removeprefix(_ERROR)


def _lines(log: Path) -> list[str]:
    return [line.strip() for line in _text(log).splitlines() if line.strip()]


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""


def _until_over(job: str, tail: "_Tail") -> str:
    said, asked = "", -_ASK_S
    while True:
        if time.monotonic() - asked >= _ASK_S:
            state, is_over = _state(job)
            asked = time.monotonic()
            if state != said:
                say(f"job {job}: {state}")
                said = state
            if is_over:
                tail.copy()
                return state
        tail.copy()
        time.sleep(_LOOK_S)


def _state(job: str) -> tuple[str, bool]:
    """State, and whether that is the end; a controller that is away for a while is waited for."""
    began = time.monotonic()
    while True:
        try:
            found = find_job(job)
        except WorkFailedError:
            if time.monotonic() - began > _PATIENCE_S:
                raise
            time.sleep(_ASK_S)
            continue
        return (found.state, found.is_over) if found else (GONE, True)


class _Tail:
    """A growing file, copied to standard output as it grows; it may not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0

    def copy(self) -> None:
        try:
            with self.path.open("rb") as handle:
                handle.seek(self.at)
                new = handle.read()
        except FileNotFoundError:
            return
        self.at += len(new)
        sys.stdout.buffer.write(new)
        sys.stdout.flush()
