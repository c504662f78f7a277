"""A stopped run asks SLURM to start its job again; and knows itself when that happens. No torch here."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrirecon import ranks
from mrirecon.cluster.jobs import find_job, this_job
from mrirecon.errors import WorkFailedError
from mrirecon.files import read_json
from mrirecon.progress import warn

_TIMEOUT_S = 60


def requeue() -> bool:
    """Ask SLURM to start this process's job again; every process of the job calls this, the first one asks.

    Only a batch job that may be requeued is, while it runs or just as its time is over: one that was cancelled has
    ended for good, and one that SLURM preempts or an administrator requeues comes back without being asked.

    Returns:
        Whether the job comes back.
    """
    if not this_job():
        return False
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM's answer, which must not change the exit code
    return ranks.from_first(_requeue)


def restarts(env: Mapping[str, str] = os.environ) -> int:
    """How often SLURM has started this job again."""
    return int(env.get("SLURM_RESTART_COUNT") or 0) if this_job(env) else 0


def slurm_facts(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What a run's provenance says about its job; empty outside of one."""
    if not this_job(env):
        return {}
    return {"slurm": {"job": this_job(env), "nodes": env.get("SLURM_JOB_NODELIST", ""), "restarts": restarts(env)}}


def was_begun_here(provenance: Path, env: Mapping[str, str] = os.environ) -> bool:
    """Whether an earlier start of this very job began the run with that `provenance.json`."""
    if not restarts(env):
        return False
    try:
        job = read_json(provenance)["slurm"]["job"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(job == this_job(env))


def _requeue() -> bool:
    try:
        job = find_job(this_job())
    except WorkFailedError as error:
        warn(f"warning: the job is not requeued: {error}")
        return False
    if job is None or not (job.is_batch and job.may_requeue):
        return False
    if job.state != "RUNNING" and (job.state, job.reason) != ("COMPLETING", "TimeLimit"):
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
