"""`mrirecon ablate run`, `status`, `report` and `worker`."""

import os
import time
from pathlib import Path

from mrirecon.cli.command import Command
from mrirecon.cli.lazy_libraries import import_torchmetrics
from mrirecon.config import NoConfig
from mrirecon.config.ablate import AblateConfig, StudyConfig, WorkerConfig
from mrirecon.errors import InputError

_EVERY_S = 5.0  # between looks of --watch


def _print_report(page: Path) -> None:
    print(f"report:     {page}")
    print(f"tables:     {page.parent}/results.csv, timing.csv, results.json")


def _run_study(config: AblateConfig, grid: str) -> None:
    from mrirecon.ablation.work.run import run_study

    page = run_study(grid, config)
    if page:
        _print_report(page)


RUN = Command(
    name="ablate run",
    summary="Tune every cell of a grid alike, rerun it on paired seeds, say what follows; resumable.",
    config=AblateConfig,
    run=_run_study,
    positionals=(("GRID", "a YAML file, a shipped name (smoke, mission, optimizer_x_norm, ...), or a study folder"),),
    epilog=(
        "examples:\n"
        "  mrirecon ablate run smoke                     (no data needed, under two minutes)\n"
        "  mrirecon ablate run mission --data DIR --workers 4\n"
        "  mrirecon ablate run optimizer_x_norm --data DIR --dry-run\n"
        "  mrirecon ablate run ablations/mission         (again: only what is missing)\n"
        "  mrirecon ablate run mission --data DIR --executor slurm --slurm.partition gpu --slurm.gpus 1 --workers 16"
    ),
)


def _status(config: StudyConfig, study: str) -> None:
    from mrirecon.ablation.study.folder import StudyFolder
    from mrirecon.ablation.work.status import count, status_table

    opened = StudyFolder(Path(study)).open()
    print(status_table(opened), flush=True)
    while config.watch and not count(opened).is_complete:
        time.sleep(_EVERY_S)
        print(f"\033[H\033[J{status_table(opened)}", flush=True)


STATUS = Command(
    name="ablate status",
    summary="Show how far a study is: done, running, failed, waiting, time left.",
    config=StudyConfig,
    run=_status,
    positionals=(("STUDY", "a study folder, such as ablations/smoke"),),
)


def _report(_config: NoConfig, study: str) -> None:
    from mrirecon.ablation.publish import write_report

    _print_report(write_report(Path(study)))


REPORT = Command(
    name="ablate report",
    summary="Write the report of what a study has so far: one offline page, tables, figures.",
    config=NoConfig,
    run=_report,
    positionals=(("STUDY", "a study folder, such as ablations/smoke"),),
)


def _work(config: WorkerConfig, study: str) -> None:
    if config.cores:
        try:
            os.sched_setaffinity(0, config.cores)
        except OSError:
            raise InputError(f"--cores {config.cores}; this machine has {sorted(os.sched_getaffinity(0))}") from None
    from mrirecon.ablation.study.folder import StudyFolder

    import_torchmetrics()
    from mrirecon.ablation.work.worker import work
    from mrirecon.cluster.requeue import coming_back

    with coming_back(StudyFolder(Path(study)).logs):
        n_done = work(Path(study))
    print(f"done:       {n_done} runs")


WORKER = Command(
    name="ablate worker",
    summary="Work on a study beside other workers until nothing is left; what local workers and jobs run.",
    config=WorkerConfig,
    run=_work,
    positionals=(("STUDY", "a study folder, on a file system that all its workers share"),),
)
