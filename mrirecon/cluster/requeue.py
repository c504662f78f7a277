"""Ask SLURM to start the job of a stopped run again, and recognise such a start."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrirecon import ranks
from mrirecon.cluster.jobs import find_job, this_job
from mrirecon.cluster.request import REQUEUES
from mrirecon.config.slurm import RequeueConfig
from mrirecon.errors import Stopped, WorkFailedError
from mrirecon.files import read_json, write_text
from mrirecon.progress import say, warn

_TIMEOUT_S = 60


@contextmanager
def coming_back(folder: Path) -> Iterator[None]:
    """Around work that can go on: where it saved and stopped, SLURM is asked to start its job again.

    Starts that led no further are counted in `folder`, which is made for that.
    """
    try:
        yield
    except Stopped as stopped:
        if requeue(folder, stopped.went_on) and ranks.is_first():
            say("SLURM starts the job again; the run then goes on by itself")
        raise


def requeue(folder: Path, went_on: bool) -> bool:
    """Ask SLURM to start this process's job again; every process of the job calls this, the first one asks.

    By `scontrol requeue` (https://slurm.schedmd.com/scontrol.html).

    Only a batch job that may be requeued is, while it runs or just as its time is over: one that was cancelled has
    ended for good, and one that SLURM preempts or an administrator requeues comes back without being asked. Nor is one
    whose starts lead no further: its time is too short for it.

    Args:
        folder: Gets the number of starts in a row without progress, as long as there are any.
        went_on: This start made progress.

    Returns:
        Whether the job comes back.
    """
    if not this_job():
        return False
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM's answer, which must not change the exit code
    return ranks.from_first(lambda: _requeue(folder, went_on))


def restarts(env: Mapping[str, str] = os.environ) -> int:
    """Return the number of times that SLURM has started this job again.

    It is SLURM_RESTART_COUNT of sbatch's manual (https://slurm.schedmd.com/sbatch.html).
    """
    return int(env.get("SLURM_RESTART_COUNT") or 0) if this_job(env) else 0


def slurm_facts(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the facts about the SLURM job for a run's provenance; empty outside of a job.

    They are variables of sbatch's manual (https://slurm.schedmd.com/sbatch.html).
    """
    if not this_job(env):
        return {}
    return {"slurm": {"job": this_job(env), "nodes": env.get("SLURM_JOB_NODELIST", ""), "restarts": restarts(env)}}


def was_begun_here(provenance: Path, env: Mapping[str, str] = os.environ) -> bool:
    """Return whether an earlier start of this very job began the run with that `provenance.json`."""
    if not restarts(env):
        return False
    try:
        job = read_json(provenance)["slurm"]["job"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(job == this_job(env))


def _requeue(folder: Path, went_on: bool) -> bool:
    try:
        job = find_job(this_job())
    except WorkFailedError as error:
        warn(f"warning: the job is not requeued: {error}")
        return False
    if job is None or not (job.is_batch and job.may_requeue):
        return False
    if job.state != "RUNNING" and (job.state, job.reason) != ("COMPLETING", "TimeLimit"):
        return False
    idle = _count_idle(folder / f"{this_job()}_idle", went_on)
    said = os.environ.get(REQUEUES, "")
    borne = int(said) if said.isdecimal() else RequeueConfig.requeues
    if idle > borne:
        warn(
            f"warning: the job is not requeued: {idle} starts in a row led no further (at most {borne} may); "
            "give it more time (--slurm.time) or a shorter --slurm.grace"
        )
        return False
    words = ["scontrol", "requeue", this_job()]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        warn(f"warning: the job is not requeued: {error}")
        return False
    if done.returncode:
        warn(f"warning: SLURM does not requeue the job: {' '.join(done.stderr.split())[:300]}")
    return done.returncode == 0


def _count_idle(file: Path, went_on: bool) -> int:
    """Count the starts in a row that made no progress, this one included; where it cannot be noted, this one alone."""
    try:
        if went_on:
            file.unlink(missing_ok=True)
            return 0
        earlier = file.read_text() if file.is_file() else ""
        idle = 1 + (int(earlier) if earlier.strip().isdecimal() else 0)
        write_text(file, f"{idle}\n")
    except OSError:
        return int(not went_on)
    return idle
