"""Go on with a training: resumed by its user, or started again by SLURM in the folder that it began."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from mrirecon import configfile, ranks
from mrirecon.cluster.jobs import batch_job, this_job
from mrirecon.cluster.join import joined
from mrirecon.cluster.requeue import coming_back, restarts, slurm_facts, was_begun_here
from mrirecon.config import TrainConfig
from mrirecon.config.train import run_name
from mrirecon.data.folders.stage import staging
from mrirecon.errors import DataChangedError, InputError
from mrirecon.files import read_json, write_json
from mrirecon.progress import say, warn
from mrirecon.runs import WRITTEN_IN_TRAINING, RunFolder, RunLock, open_run
from mrirecon.training.checkpoints.read import resumable, what_is_kept
from mrirecon.training.loop.validate_and_keep import read_settings
from mrirecon.workflows.fit import fit
from mrirecon.workflows.setup.training_work import MAY_CHANGE, TrainingWork


def resume_training(path: str, changes: TrainConfig, given: Sequence[str] = ()) -> RunFolder:
    """Go on with the run at `path`; the result equals that of an uninterrupted run, bit for bit on CPU in fp32.

    Args:
        path: Run folder.
        changes: Values for the keys in `given`.
        given: Keys that the caller sets; only those that do not change the result are allowed.

    Raises:
        InputError: No such run, nothing to go on from, or a key that would change the result.
    """
    run = open_run(path)
    # as many processes as it had, or as given
    new = {key: getattr(changes, key) for key in ("devices", "num_nodes", "device") if key in given}
    stored = dataclasses.replace(configfile.load(TrainConfig, run.config), **new)
    stage = (changes if "data.stage" in given else stored).data.stage
    with joined(stored), coming_back(run.slurm), staging(stage):
        return go_on(run, changes, given)


def go_on(run: RunFolder, changes: TrainConfig, given: Sequence[str] = ()) -> RunFolder:
    """As `resume_training`, in processes that are joined already."""
    with written_by_us(run) as lock:
        for folder in WRITTEN_IN_TRAINING:
            run.require_inside(run.path / folder)
        with ranks.agreeing():
            work, checkpoint = reopen(run, changes, given)
        if ranks.is_first() and slurm_facts():
            write_json(run.provenance, read_json(run.provenance) | slurm_facts())
        return fit_or_name_what_is_kept(work, run, str(checkpoint), lock)


def fit_or_name_what_is_kept(work: TrainingWork, run: RunFolder, checkpoint: str | None, lock: RunLock) -> RunFolder:
    """Fit, from `checkpoint` where there is one; data that changed meanwhile end it with the last good state named."""
    try:
        return fit(work, run, checkpoint, lock)
    except DataChangedError as error:  # no step that may have seen it was saved
        raise DataChangedError(f"{error}; {what_is_kept(run)}") from error


@contextmanager
def written_by_us(run: RunFolder) -> Iterator[RunLock]:
    """Keep other commands from writing a run; the first process has the lock, for all.

    Raises:
        InputError: Another command writes it, on all processes.
    """
    lock = RunLock(run)
    with ExitStack() as held:
        ranks.from_first(lambda: bool(held.enter_context(lock.held(warn))))
        yield lock


def to_go_on(path: str, changes: TrainConfig, given: Sequence[str]) -> tuple[RunFolder, TrainConfig, dict[str, Any]]:
    """Prepare a job that goes on with a run on `changes.slurm.nodes` nodes; its data are not read.

    Returns:
        The run, its configuration with `devices` for each of the nodes, and what the caller changes, by key.

    Raises:
        InputError: As of `resume_training`; or the processes of the run do not divide over the nodes.
    """
    run = open_run(path)
    keys = [key for key in given if not key.startswith("slurm.")]
    _require_changeable(run, keys)
    resumable(run)
    stored, new = configfile.load(TrainConfig, run.config), configfile.flatten(changes)
    kept = {key: new[key] for key in keys if key not in ("devices", "num_nodes")}
    n, nodes = stored.devices * stored.num_nodes, changes.slurm.nodes
    devices = changes.devices if "devices" in keys else max(n // max(nodes, 1), 1)
    if nodes > 0 and devices * nodes != n:
        raise InputError(
            f"{run.path} was trained with {n} process{'' if n == 1 else 'es'}, not {devices * nodes}; "
            "go on with as many (--devices times --slurm.nodes)"
        )
    config = configfile.build(TrainConfig, {**configfile.flatten(stored), **kept})
    num_nodes = changes.num_nodes if "num_nodes" in keys else 1
    return run, dataclasses.replace(config, devices=devices, num_nodes=num_nodes, slurm=changes.slurm), kept


def reopen(run: RunFolder, changes: TrainConfig, given: Sequence[str] = ()) -> tuple[TrainingWork, Path]:
    """Make the work of a run that goes on, and find the checkpoint it goes on from; see `resume_training`."""
    _require_changeable(run, given)
    checkpoint = resumable(run)
    stored = read_settings(checkpoint)
    flat = configfile.flatten(configfile.load(TrainConfig, run.config))
    if flat["precision"] == "auto":  # as it was resolved where the run began
        flat["precision"] = stored.get("precision", "auto")
    new = configfile.flatten(changes)
    config = configfile.build(TrainConfig, {**flat, **{key: new[key] for key in given}})
    work = TrainingWork(config, goes_on=True)
    work.go_on_with(stored)
    work.require_settings(stored, run)
    work.require_same_data(run)
    work.compile()
    return work, checkpoint


def _require_changeable(run: RunFolder, given: Sequence[str]) -> None:
    refused = sorted(set(given) - set(MAY_CHANGE))
    if refused:
        # the flags of keys; of steps and epochs the one that the run has makes room for the other
        other = {"max_steps": "max_epochs", "max_epochs": "max_steps"}
        flat = configfile.flatten(configfile.load(TrainConfig, run.config))
        words = [(key, "...") for key in refused if key != "weights"]
        words += [
            (other[key], "0") for key in refused if key in other and other[key] not in refused and flat[other[key]]
        ]
        flags = "".join(f" --{key.replace('_', '-')} {value}" for key, value in words)
        raise InputError(
            f"a resumed run keeps its configuration; '{refused[0]}' cannot change (only {', '.join(MAY_CHANGE)} can). "
            f"To go on from its weights, in a new run: mrirecon train -c {run.config} --weights {run.path}"
            f"{flags}; to train anew, the same without --weights"
        )


# ---- a job that SLURM starts again goes on in the folder that it began


def named_by_job(config: TrainConfig) -> TrainConfig:
    """Name the output folder by the number of its job, so that a job which is started again finds it.

    A folder that is named by the time would be another one then.

    One script may train several networks, one after the other: later ones have a number.
    """
    job = "" if config.output else batch_job()
    if not job:
        return config
    first = Path("runs") / f"{run_name(config)}-{job}"
    return dataclasses.replace(config, output=ranks.from_first(lambda: _free_or_begun(first, config)))


def left_by_this_job(config: TrainConfig) -> str:
    """Find what an earlier start of this SLURM job left in the output folder of this very training.

    Returns:
        checkpoint; nothing, where it had not come that far; or an empty string: it did not begin a run there.
    """
    run = RunFolder(Path(config.output))
    if not config.output or not was_begun_here(run.provenance) or not _is_begun(run, repeatable(config)):
        return ""
    return "checkpoint" if any(run.checkpoint(name).is_file() for name in ("last", "previous")) else "nothing"


def say_started_again(config: TrainConfig) -> None:
    """Say in the job's log that the run goes on."""
    if ranks.is_first():
        say(f"job {this_job()}, start {restarts() + 1}: the run in {config.output} goes on")


def repeatable(config: TrainConfig) -> TrainConfig:
    """Return the configuration that repeats a run from any directory: full paths, no output folder of its own."""
    data = dataclasses.replace(config.data, path=str(Path(config.data.path).resolve()))
    weights = config.weights and str(Path(config.weights).absolute())
    return dataclasses.replace(config, data=data, weights=weights, output="", overwrite=False)


def _free_or_begun(first: Path, config: TrainConfig) -> str:
    paths = (str(first) if n == 1 else f"{first}-{n}" for n in count(1))
    return next(
        path for path in paths if not Path(path).exists() or left_by_this_job(dataclasses.replace(config, output=path))
    )


def _is_begun(run: RunFolder, config: TrainConfig) -> bool:
    config = dataclasses.replace(config, optimizer=config.optimizer.with_lr())
    found, wanted = configfile.flatten(configfile.load(TrainConfig, run.config)), configfile.flatten(config)
    for key, open_value in (("optimizer.lr", "find"), ("model.residual", "auto")):  # the folder has what was decided
        if wanted[key] == open_value:
            found[key] = open_value
    return bool(found == wanted)
