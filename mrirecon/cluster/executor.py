"""Commands as jobs of SLURM, through submitit, which submits them and does no more."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from mrirecon.classpaths import allowed_here
from mrirecon.cluster.request import DEAF, python_words, sbatch_options, setup_lines
from mrirecon.config.slurm import SlurmConfig
from mrirecon.data.hdf5.limits import limit_words
from mrirecon.errors import InputError

_SUBMITITS = ("time", "job-name", "cpus-per-task", "gpus-per-node")  # options that it has words for


def submit(
    commands: Sequence[list[str]],
    folder: Path,
    slurm: SlurmConfig,
    name: str,
    advice: str,
    parameters: Mapping[str, Any] | None = None,
) -> list[str]:
    """Submit a job, or a job array where there are several commands; SLURM may start each again.

    It is submitted by submitit (https://github.com/facebookincubator/submitit).

    Args:
        commands: A job is such a list of strings and nothing else; the first one is Python, which `slurm` may replace.
        folder: Gets the logs and submitit's job files (`job_folder`).
        slurm: What is asked for.
        name: Of the job, where `slurm` has none.
        advice: What to do where SLURM takes no jobs.
        parameters: Further ones, in submitit's words.

    Returns:
        The job ids.

    Raises:
        InputError: There is no SLURM here, or it refuses the job.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    options = sbatch_options(slurm, name)
    words, python = python_words(slurm)
    given = {option.replace("-", "_"): options.pop(option) for option in _SUBMITITS if option in options}
    options = {"signal": "CONT@1", **options}  # in place of submitit's own, which would end the command
    given |= {"additional_parameters": options, "stderr_to_stdout": True, "wckey": None, **(parameters or {})}
    given["setup"] = setup_lines(slurm)
    try:
        start = shlex.join(["bash", "-c", DEAF, *words])
        executor = submitit.SlurmExecutor(folder=folder, python=start)  # named, never detected
        executor.update_parameters(**given)
        with redirect_stderr(StringIO()), executor.batch():  # what sbatch says stands in its error too
            # the command takes the place of submitit's process: SLURM sees its exit code, and it alone gets signals
            jobs = [executor.submit(os.execvp, python, [python, *command[1:]]) for command in commands]
    except (RuntimeError, OSError, FailedJobError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"SLURM does not take the job ({reason}); {advice}") from None
    return [str(job.job_id) for job in jobs]


def program(*words: str) -> list[str]:
    """This program as the command of a job, with the permissions and limits that it has here."""
    allowed = [f"--allow-import={prefix}" for prefix in allowed_here()[-1:]]  # the command takes one
    return [sys.executable, "-m", "mrirecon", *words, *allowed, *limit_words()]


@contextmanager
def job_folder(folder: Path) -> Iterator[None]:
    """Around the submission of a job: the folder of its files, which is made with its parents.

    Logs may be read by others as the umask says; submitit's files, which are pickles that will be run, are for the
    owner alone, and nobody else can put any there. After an error nothing is left of the job.

    Raises:
        InputError: The folder cannot be made or written.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    before = set(folder.iterdir()) if folder.is_dir() else set()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(
            f"cannot write the files of a job to {folder}: {error.strerror}; choose another --output"
        ) from None
    try:
        yield
    except BaseException:
        for path in set(folder.iterdir()) - before:
            path.unlink()
        for path in made:
            path.rmdir()
        raise
    for path in set(folder.iterdir()) - before:
        if path.suffix in (".pkl", ".sh"):
            path.chmod(0o600)
    folder.chmod(0o755 & ~umask)
