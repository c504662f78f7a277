"""`mrirecon ablate worker`."""

import os

from mrirecon.cli.command import Command
from mrirecon.config.ablate import WorkerConfig


def _run(config: WorkerConfig, study: str) -> None:
    from pathlib import Path

    if config.cores:
        os.sched_setaffinity(0, config.cores)
    from mrirecon.ablation.worker import work

    n_done = work(Path(study))
    print(f"done:       {n_done} runs")


COMMAND = Command(
    name="ablate worker",
    summary="Work on a study beside other workers until nothing is left; what local workers and jobs run.",
    config=WorkerConfig,
    run=_run,
    positionals=(("STUDY", "a study folder, on a file system that all its workers share"),),
)
