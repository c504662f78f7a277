"""What `train`, `evaluate` and `reconstruct` share when they are submitted as a SLURM job."""

import shlex
from pathlib import Path

from mrirecon.cluster.join import processes_to_start
from mrirecon.cluster.submit import JobKeys
from mrirecon.config.slurm import OneJobConfig
from mrirecon.errors import InputError, unknown_name
from mrirecon.runs import RunFolder, run_of


def is_job(slurm: OneJobConfig) -> bool:
    """Say whether the work is to be submitted, not to be done here.

    Raises:
        InputError: It is said how a job is asked for, but not for how many nodes.
    """
    if not slurm.nodes and slurm != type(slurm)():
        raise InputError("--slurm.* says how a job is asked for, but not for how many nodes; add --slurm.nodes N")
    return slurm.nodes != 0


def processes(config: JobKeys, _extra: dict[str, str]) -> int:
    """Processes to start here: none for a job, whose own SLURM starts."""
    return 0 if config.slurm.nodes else processes_to_start(config)


def place_of(reconstructor: str) -> RunFolder:
    """Return the folder for evaluations of a run or of a method; a file of weights has the place of its name.

    Raises:
        InputError: It is none of these.
    """
    from mrirecon.tables.methods import METHODS

    if run := run_of(reconstructor):
        return RunFolder(run.path.resolve())
    if reconstructor not in METHODS and not Path(reconstructor).is_file():
        hint = f"Or give a run folder or a file of weights; there is none at {reconstructor}."
        raise unknown_name("method", reconstructor, METHODS, hint)
    return RunFolder(Path("runs") / Path(reconstructor).stem)


def watch(job: str, log: Path, slurm: OneJobConfig, result: str, following: str = "") -> None:
    """Say where a submitted job, its log and its results are; with `slurm.follow` until it ends."""
    from mrirecon.cluster.jobs import follow

    print(f"job:        {job}")
    print(result)
    if slurm.follow:
        follow(job, log)
        return
    print(f"watch:      squeue --job {job}; tail -F {shlex.quote(str(log))}")
    if following:
        print("when done, run the line below")
        print(f"next:       {following}")
