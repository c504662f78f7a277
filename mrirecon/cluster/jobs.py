"""Jobs of SLURM and their states, from squeue and scontrol: not every cluster has sacct's accounting."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mrirecon.errors import WorkFailedError

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
