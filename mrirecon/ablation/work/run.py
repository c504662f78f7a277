"""`mrirecon ablate run`: prepare a study, start its workers, watch them, report."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from mrirecon import progress
from mrirecon.ablation.study.folder import Study, StudyFolder
from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.ablation.work.estimate import (
    announce,
    check_cells,
    describe,
    measure,
    pilot_lines,
    require_runnable,
)
from mrirecon.ablation.work.prepare import prepare, read_content, standing, study_path
from mrirecon.ablation.work.status import Counts, count, progress_line, status_table
from mrirecon.cluster.submit import require_slurm, submit_workers, worker_command
from mrirecon.config.ablate import AblateConfig
from mrirecon.errors import InputError, Stopped, WorkFailedError, unknown_name
from mrirecon.evaluation.stats import require_seeds
from mrirecon.files import read_json
from mrirecon.progress import say
from mrirecon.termination import heeded, leave_lost_terminal, signal_words

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
        _try(name, config, grid, n_workers)
        return None
    require_seeds(len(grid.seeds))
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
    folder = StudyFolder(study_path(name, config, grid.name))
    if folder.manifest_file.is_file() and folder.read_manifest()["grid"] == read_content(name, config):
        announce(grid)
        return
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


def _try(name: str, config: AblateConfig, grid: Grid, n_workers: int) -> None:
    study = standing(name, config)
    counts = count(study) if study else None
    n_left = counts.expected - counts.done if counts else 1
    costs, errors = measure(name, config, grid) if n_left or config.smoke else ({}, {})
    print(describe(grid, n_workers, costs))
    if study and (study.folder.report / "results.json").is_file():
        for line in pilot_lines(grid, read_json(study.folder.report / "results.json")):
            print(line)
    if counts:
        print(f"left        {n_left} runs to do, {counts.done} are done{' (the estimate is for all)' if costs else ''}")
    if config.smoke:
        for cell in grid.cells:
            print(f"smoke       {cell.name}: {'would fail: ' + errors[cell.name] if cell.name in errors else 'runs'}")
    require_runnable(grid, errors)


_LOOK_S, _SAY_S = 0.25, 15.0


def run_local(study: Study, n_workers: int, threads: int) -> None:
    """Start workers on disjoint cores, or GPUs, and wait for them.

    Raises:
        Stopped: A signal came; the workers saved what they were at.
    """
    folder = study.folder
    folder.logs.mkdir(exist_ok=True)
    places = _places(n_workers, threads)
    logs = [folder.logs / f"worker-{os.getpid()}-{i}.log" for i in range(n_workers)]
    workers = [_start(study, log, place) for log, place in zip(logs, places, strict=True)]
    stopped: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_lost_terminal()
        stopped.append(number)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)

    asked = heeded(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    old = {number: signal.signal(number, stop) for number in asked}
    try:
        _watch(study, workers)
    except BaseException:
        for worker in workers:
            worker.terminate()
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    for worker, log in zip(workers, logs, strict=True):
        if worker.returncode and not stopped:
            say(f"worker      {_last_words(worker.returncode, log)}")
    if stopped:
        raise Stopped(f"stopped by {signal.Signals(stopped[0]).name}; go on with: mrirecon ablate run {folder.path}")


def default_workers(threads: int) -> int:
    """One per GPU, where there are any; else one per so many cores."""
    gpus = _gpus()
    return len(gpus) or max(1, len(os.sched_getaffinity(0)) // threads)


def _places(n_workers: int, threads: int) -> list[dict[str, str]]:
    """Environment and cores of each worker; more workers than cores share them all."""
    cores, gpus = sorted(os.sched_getaffinity(0)), _gpus()
    places = []
    for i in range(n_workers):
        place = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if gpus:
            place["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
        if n_workers * threads <= len(cores):
            place["cores"] = " ".join(map(str, cores[i * threads : (i + 1) * threads]))
        places.append(place)
    return places


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, without asking torch, which takes seconds to import."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i, _ in enumerate(devices.iterdir())] if devices.is_dir() else []


def _start(study: Study, log: Path, place: dict[str, str]) -> "subprocess.Popen[bytes]":
    cores = place.pop("cores", "").split()
    command = worker_command(study.folder.path) + (["--cores", *cores] if cores else [])
    with log.open("ab") as handle:
        return subprocess.Popen(
            command,
            stdout=handle,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **place},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops them once
        )


def _last_words(code: int, log: Path) -> str:
    """Say why a worker ended: the signal, or the last line it wrote."""
    if code < 0:
        return f"ended by {signal_words(-code)}"
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"ended with code {code}")


def _watch(study: Study, workers: "Sequence[subprocess.Popen[bytes]]") -> None:
    began = said = time.monotonic()
    first: Counts | None = None
    while any(worker.poll() is None for worker in workers):
        time.sleep(_LOOK_S)
        if progress.quiet or time.monotonic() - said < (1.0 if sys.stderr.isatty() else _SAY_S):
            continue
        said = time.monotonic()
        now = count(study)
        first = first or now
        line = progress_line(now, now.done - first.done, said - began)
        print(
            f"\r\033[K{line}" if sys.stderr.isatty() else line, end="" if sys.stderr.isatty() else "\n", file=sys.stderr
        )
        sys.stderr.flush()
    if sys.stderr.isatty() and not progress.quiet:
        print(file=sys.stderr)
