"""Workers as jobs of a cluster, through submitit; local workers are started with the same command. No torch here."""

import shutil
from pathlib import Path

from mrirecon.cluster.executor import job_options, program, submit
from mrirecon.config.slurm import SlurmConfig
from mrirecon.errors import InputError

_GRACE_S = 120  # before the time limit a worker saves what it is at


def worker_command(study: Path) -> list[str]:
    """What a worker of a study is, here and on a cluster: a job is this list of strings and nothing else."""
    return program("ablate", "worker", str(study.resolve()))


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
    advice = "use --executor local, or mend --slurm.*"
    parameters = {"job_name": "mrirecon-ablate", "array_parallelism": n_workers, **job_options(_GRACE_S)}
    return submit([worker_command(study)] * n_workers, logs, slurm, parameters, advice)
