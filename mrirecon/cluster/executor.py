"""Commands as jobs of SLURM, through submitit, which submits them and does no more. No torch here."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from mrirecon.classpaths import allowed_here
from mrirecon.config.slurm import SlurmConfig
from mrirecon.data.limits import limit_words
from mrirecon.errors import InputError

# neither submitit's process nor the command that takes its place dies of the signal to save before the command listens
_DEAF = 'trap "" USR1; exec "$0" "$@"'


def submit(
    commands: Sequence[list[str]], folder: Path, slurm: SlurmConfig, parameters: Mapping[str, Any], advice: str
) -> list[str]:
    """Submit a job, or a job array where there are several commands; SLURM may start each again.

    Args:
        commands: A job is such a list of strings and nothing else.
        folder: Made here; gets submitit's job files, which are pickles: readable for the owner alone.
        slurm: What is asked for.
        parameters: Further ones, in submitit's words.
        advice: What to do where SLURM takes no jobs.

    Returns:
        The job ids.

    Raises:
        InputError: There is no SLURM here, or it refuses the job.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        python = shlex.join(["bash", "-c", _DEAF, sys.executable])
        executor = submitit.SlurmExecutor(folder=folder, python=python)  # named, never detected
        executor.update_parameters(**_parameters(slurm, parameters))
        with redirect_stderr(StringIO()), executor.batch():  # what sbatch says stands in its error too
            # the command takes the place of submitit's process: SLURM sees its exit code, and it alone gets signals
            jobs = [executor.submit(os.execvp, command[0], command) for command in commands]
    except (RuntimeError, OSError, FailedJobError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"SLURM does not take the job ({reason}); {advice}") from None
    return [str(job.job_id) for job in jobs]


def program(*words: str) -> list[str]:
    """This program as the command of a job, with the permissions and limits that it has here."""
    allowed = [f"--allow-import={prefix}" for prefix in allowed_here()[-1:]]  # the command takes one
    return [sys.executable, "-m", "mrirecon", *words, *allowed, *limit_words()]


def _parameters(slurm: SlurmConfig, further: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {
        "time": slurm.time,
        "cpus_per_task": slurm.cpus,
        "partition": slurm.partition,
        "account": slurm.account,
        "mem": slurm.mem,
        "gpus_per_node": slurm.gpus,
        "stderr_to_stdout": True,
        **further,
    }
    return {key: value for key, value in wanted.items() if value}


def job_options(grace: int) -> dict[str, Any]:
    """For `parameters`: a signal so many seconds before the time limit, and a log that goes on when a job does.

    The signal is not submitit's, upon which it would end the command instead of asking it to save.
    """
    return {"additional_parameters": {"signal": f"USR1@{grace}", "requeue": True, "open-mode": "append"}}
