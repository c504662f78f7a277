"""A training whose SLURM job is started again goes on by itself, in the folder that it began."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from mrirecon import configfile, ranks
from mrirecon.cluster.jobs import batch_job, this_job
from mrirecon.cluster.requeue import requeue, restarts, was_begun_here
from mrirecon.config import TrainConfig
from mrirecon.config.train import run_name
from mrirecon.errors import Stopped
from mrirecon.progress import say
from mrirecon.runs import RunFolder


@contextmanager
def coming_back(folder: Path) -> Iterator[None]:
    """Around work that can go on: where it saved and stopped, SLURM is asked to start its job again.

    Starts that led no further are counted in `folder`, which is made for that.
    """
    try:
        yield
    except Stopped as stopped:
        if requeue(folder, stopped.went_on) and ranks.is_first():
            say("SLURM starts the job again; the run then goes on by itself")
        raise


def named_by_job(config: TrainConfig) -> TrainConfig:
    """With an output folder that a job finds again, for one that is named by the time it would not.

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
    if wanted["optimizer.lr"] == "find":  # the folder has the one that was found
        found["optimizer.lr"] = "find"
    return bool(found == wanted)
