"""`mrirecon ablate run`: prepare, do what is missing, report. No torch here."""

import shlex
from pathlib import Path

from mrirecon.ablation.study.folder import Study, StudyFolder
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.ablation.study.prepare import prepare, read_content, standing, study_path
from mrirecon.ablation.work.estimate import announce, describe, measure, require_runnable
from mrirecon.ablation.work.launch import default_workers, run_local
from mrirecon.ablation.work.status import count, status_table
from mrirecon.cluster.submit import require_slurm, submit_workers
from mrirecon.config.ablate import AblateConfig
from mrirecon.errors import InputError, WorkFailedError, unknown_name
from mrirecon.evaluation.stats.flips import require_decidable
from mrirecon.progress import say

EXECUTORS = ("local", "slurm")


def run_study(name: str, config: AblateConfig) -> Path | None:
    """Do what is missing of a study, then write its report.

    Returns:
        The report's page; None where nothing was run (`--dry-run`, `--smoke`, or jobs that were submitted).

    Raises:
        InputError: A wrong grid, wrong data, a folder that cannot be used, cells that cannot run.
        WorkFailedError: Some runs failed; all others are done.
        Stopped: A signal came.
    """
    if config.executor not in EXECUTORS:
        raise unknown_name("executor", config.executor, EXECUTORS)
    if config.dry_run and config.smoke:
        raise InputError("--dry-run and --smoke contradict each other; give one")
    grid = make_grid(read_content(name, config))
    n_workers = config.workers or (default_workers(config.threads or 1) if config.executor == "local" else 4)
    if config.dry_run or config.smoke:
        _try(name, config, n_workers)
        return None
    require_decidable(len(grid.seeds))
    if config.executor == "slurm":
        require_slurm(config.slurm)
    _introduce(name, config, grid, n_workers)
    study = prepare(name, config)
    study.folder.forget_failures()
    study.folder.leases.mkdir(exist_ok=True)
    if not count(study).is_complete:
        if config.executor == "slurm":
            _submit(study, config, n_workers)
            return None
        say(f"study       {study.folder.path}: {count(study).expected} runs, {n_workers} workers")
        run_local(study, n_workers, study.plan.common.threads)
    return _finish(study)


def _introduce(name: str, config: AblateConfig, grid: Grid, n_workers: int) -> None:
    """Before anything is written, refuse by name the cells that cannot be made, and say what a new grid will do."""
    folder = StudyFolder(study_path(name, config, grid))
    if folder.manifest_file.is_file() and folder.read_manifest()["grid"] == read_content(name, config):
        announce(grid)
        return
    from mrirecon.ablation.work.check_cells import check_cells

    require_runnable(grid, check_cells(grid, config.device or "auto"))
    say(describe(grid, n_workers))


def _finish(study: Study) -> Path:
    from mrirecon.ablation.publish import write_report

    counts = count(study)
    page = write_report(study.folder.path) if counts.done else None
    if counts.failed:
        done = f"{counts.done} are done and in {page}" if page else "none is done"
        raise WorkFailedError(f"{counts.failed} runs failed, {done}\n{status_table(study)}")
    if not counts.is_complete or page is None:
        raise WorkFailedError(
            f"{counts.waiting + counts.running} runs are not done: the workers ended early (see {study.folder.logs}); "
            f"go on with: mrirecon ablate run {study.folder.path}"
        )
    return page


def _submit(study: Study, config: AblateConfig, n_workers: int) -> None:
    jobs = submit_workers(study.folder.path, study.folder.logs, n_workers, config.slurm)
    study.folder.note_jobs(jobs)
    print(f"submitted:  {', '.join(jobs)}")
    folder = shlex.quote(str(study.folder.path))
    print(f"next:       mrirecon ablate status {folder} && mrirecon ablate report {folder}")


def _try(name: str, config: AblateConfig, n_workers: int) -> None:
    grid = make_grid(read_content(name, config))
    study = standing(name, config)
    counts = count(study) if study else None
    n_left = counts.expected - counts.done if counts else 1
    costs, errors = measure(name, config, grid) if n_left or config.smoke else ({}, {})
    print(describe(grid, n_workers, costs))
    if counts:
        print(f"left        {n_left} runs to do, {counts.done} are done{' (the estimate is for all)' if costs else ''}")
    if config.smoke:
        for cell in grid.cells:
            print(f"smoke       {cell.name}: {'would fail: ' + errors[cell.name] if cell.name in errors else 'runs'}")
    require_runnable(grid, errors)
