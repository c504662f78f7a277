"""Jobs of SLURM: their states, from squeue and scontrol, for not every cluster has sacct's accounting; their logs."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mrirecon.errors import WorkFailedError
from mrirecon.progress import say

GONE = "GONE"  # SLURM has forgotten the job: it ended some time ago
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
AT_WORK = frozenset({"RUNNING", "COMPLETING", "STAGE_OUT", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"})
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Job:
    """A job as SLURM describes it.

    Attributes:
        id: Number, or number_task in an array.
        state: RUNNING, PENDING, FAILED, ... in SLURM's words.
        is_batch: It was submitted by sbatch, not opened by salloc or srun.
        may_requeue: SLURM may start it again.
        restarts: How often it was started again.
        exit_code: Of its script.
        reason: Why it waits or ends.
    """

    id: str
    state: str
    is_batch: bool = False
    may_requeue: bool = False
    restarts: int = 0
    exit_code: int = 0
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Say whether the job will not run, or not again.

        By its state; for the states see https://slurm.schedmd.com/squeue.html, job state codes.
        """
        return self.state not in WAITING | AT_WORK


def this_job(env: Mapping[str, str] = os.environ) -> str:
    """Id of the job that this process belongs to; empty outside of one.

    From the variables that a job has by sbatch's manual (https://slurm.schedmd.com/sbatch.html).
    """
    if "SLURM_ARRAY_JOB_ID" in env and "SLURM_ARRAY_TASK_ID" in env:
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return env.get("SLURM_JOB_ID", "")


def batch_job(env: Mapping[str, str] = os.environ) -> str:
    """A word for this process's step of its batch job, the same each time SLURM starts the job; empty outside of one.

    The number of a step is SLURM_STEP_ID of srun's manual (https://slurm.schedmd.com/srun.html).

    A shell that was opened by salloc is no batch job: what is typed there is not started again.
    """
    if env.get("ENVIRONMENT") != "BATCH" or not this_job(env):
        return ""
    step = env.get("SLURM_STEP_ID", "0")
    return this_job(env) if step in ("", "0") else f"{this_job(env)}.{step}"


def job_states(jobs: Iterable[str]) -> dict[str, str]:
    """The state of each job, by its id, as squeue says it (https://slurm.schedmd.com/squeue.html, job state codes).

    Raises:
        WorkFailedError: SLURM does not answer.
    """
    wanted = list(dict.fromkeys(jobs))
    if not wanted:
        return {}
    arrays = ",".join(dict.fromkeys(job.split("_")[0] for job in wanted))  # one question for all tasks of one
    queue = _ask("squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={arrays}")
    found = parse_queue(queue)
    return {job: found.get(job, GONE) for job in wanted}


def find_job(job: str) -> Job | None:
    """All about one job by scontrol (https://slurm.schedmd.com/scontrol.html); None where SLURM has forgotten it.

    Raises:
        WorkFailedError: SLURM does not answer.
    """
    return next(iter(parse_jobs(_ask("scontrol", "show", "job", "--oneliner", job))), None)


def parse_queue(text: str) -> dict[str, str]:
    """Ids and states of `squeue --format='%i %T'` (https://slurm.schedmd.com/squeue.html)."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def parse_jobs(text: str) -> list[Job]:
    """Jobs of `scontrol show job --oneliner` (https://slurm.schedmd.com/scontrol.html)."""
    return [_job(line) for line in text.splitlines() if line.startswith("JobId=")]


def _job(line: str) -> Job:
    # a job's own name may look like anything: its numbers stand before it, and its facts come last
    before, _, after = line.partition(" JobName=")
    head, facts = _words(before), _words(after)
    array = head.get("ArrayJobId", "")
    return Job(
        id=f"{array}_{head.get('ArrayTaskId', '')}" if array else head["JobId"],
        state=facts["JobState"],
        is_batch=facts.get("BatchFlag") == "1",
        may_requeue=facts.get("Requeue") == "1",
        restarts=int(facts.get("Restarts") or 0),
        exit_code=int(facts.get("ExitCode", "").partition(":")[0] or 0),
        reason=facts.get("Reason", ""),
    )


def _words(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in text.split())}


def _ask(*words: str) -> str:
    """The answer of one of SLURM's programs; empty for a job that it does not know."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        raise WorkFailedError(f"there is no {words[0]} here, so the states of SLURM's jobs are unknown") from None
    except subprocess.TimeoutExpired:
        raise WorkFailedError(f"SLURM does not answer ({words[0]}, {_TIMEOUT_S} s)") from None
    if done.returncode and "Invalid job id" not in done.stderr:
        raise WorkFailedError(f"SLURM does not answer ({words[0]}: {' '.join(done.stderr.split())[:300]})")
    return done.stdout


# ---- show the log of a SLURM job until it ends


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
