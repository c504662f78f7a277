"""Workers as jobs of a cluster, through submitit; local workers are started with the same command. No torch here."""

import shutil
import sys
from pathlib import Path
from typing import Any

from mrirecon.classpaths import allowed_here
from mrirecon.config.slurm import SlurmConfig
from mrirecon.errors import InputError


def worker_command(study: Path) -> list[str]:
    """What a worker of a study is, here and on a cluster: a job is this list of strings and nothing else."""
    allowed = [f"--allow-import={prefix}" for prefix in allowed_here()[-1:]]  # the command takes one
    return [sys.executable, "-m", "mrirecon", "ablate", "worker", str(study.resolve()), *allowed]


def require_slurm() -> None:
    """Raise an InputError where no job can be submitted."""
    if shutil.which("sbatch") is None:
        raise InputError("--executor slurm, but there is no sbatch here; use --executor local, or a login node")


def submit_workers(study: Path, logs: Path, n_workers: int, slurm: SlurmConfig) -> list[str]:
    """Submit a SLURM job array of workers.

    Args:
        study: The study folder, on a file system that the nodes share.
        logs: Gets submitit's job files, which are pickles: readable for the owner alone.
        n_workers: Jobs of the array.
        slurm: What is asked for.

    Returns:
        The job ids.

    Raises:
        InputError: There is no SLURM here, or it refuses the job.
    """
    import submitit
    from submitit.core.utils import FailedJobError
    from submitit.helpers import CommandFunction

    logs.mkdir(exist_ok=True)
    logs.chmod(0o700)
    try:
        executor = submitit.SlurmExecutor(folder=logs)  # named, never detected
        executor.update_parameters(**_parameters(slurm, n_workers))
        with executor.batch():
            jobs = [executor.submit(CommandFunction(worker_command(study))) for _ in range(n_workers)]
    except (RuntimeError, OSError, FailedJobError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"SLURM does not take the jobs ({reason}); use --executor local, or mend --slurm.*") from None
    return [str(job.job_id) for job in jobs]


def _parameters(slurm: SlurmConfig, n_workers: int) -> dict[str, Any]:
    wanted = {
        "job_name": "mrirecon-ablate",
        "time": slurm.time,
        "cpus_per_task": slurm.cpus,
        "array_parallelism": n_workers,
        "partition": slurm.partition,
        "account": slurm.account,
        "mem": slurm.mem,
        "gpus_per_node": slurm.gpus,
    }
    return {key: value for key, value in wanted.items() if value}
