"""`mrirecon ablate worker`."""

import os

from mrirecon.cli.command import Command
from mrirecon.config.ablate import WorkerConfig
from mrirecon.errors import InputError


def _run(config: WorkerConfig, study: str) -> None:
    from pathlib import Path

    if config.cores:
        try:
            os.sched_setaffinity(0, config.cores)
        except OSError:
            raise InputError(f"--cores {config.cores}; this machine has {sorted(os.sched_getaffinity(0))}") from None
    from mrirecon.ablation.study.folder import StudyFolder
    from mrirecon.ablation.work.worker import work
    from mrirecon.workflows.setup.slurm_restart import coming_back

    with coming_back(StudyFolder(Path(study)).logs):
        n_done = work(Path(study))
    print(f"done:       {n_done} runs")


COMMAND = Command(
    name="ablate worker",
    summary="Work on a study beside other workers until nothing is left; what local workers and jobs run.",
    config=WorkerConfig,
    run=_run,
    positionals=(("STUDY", "a study folder, on a file system that all its workers share"),),
)
