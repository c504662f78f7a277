"""Workers as jobs of a cluster, through submitit; local workers are started with the same command. No torch here."""

import shutil
from pathlib import Path

from mrirecon.cluster.executor import job_folder, program, submit
from mrirecon.cluster.request import check_request
from mrirecon.config.slurm import RequeueConfig
from mrirecon.errors import InputError


def worker_command(study: Path) -> list[str]:
    """What a worker of a study is, here and on a cluster: a job is this list of strings and nothing else."""
    return program("ablate", "worker", str(study.resolve()))


def require_slurm(slurm: RequeueConfig) -> None:
    """Raise an InputError where no job can be submitted, or not one like this."""
    if shutil.which("sbatch") is None:
        raise InputError("--executor slurm, but there is no sbatch here; use --executor local, or a login node")
    check_request(slurm)


def submit_workers(study: Path, logs: Path, n_workers: int, slurm: RequeueConfig) -> list[str]:
    """Submit a SLURM job array of workers, which has the study's name.

    Args:
        study: The study folder, on a file system that the nodes share.
        logs: Gets the logs and submitit's job files.
        n_workers: Jobs of the array.
        slurm: What is asked for.

    Returns:
        The job ids.

    Raises:
        InputError: There is no SLURM here, or it refuses the job.
    """
    advice = "use --executor local, or mend --slurm.*"
    commands = [worker_command(study)] * n_workers
    with job_folder(logs):
        return submit(commands, logs, slurm, study.resolve().name, advice, {"array_parallelism": n_workers})
