"""Training, from a configuration to a run folder; and going on with a stopped one."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrirecon import configfile
from mrirecon.config import TrainConfig
from mrirecon.errors import InputError
from mrirecon.files import write_json
from mrirecon.runs import RunFolder, new_run, open_run, require_replaceable
from mrirecon.training.keeper import read_settings
from mrirecon.workflows.announce import announce
from mrirecon.workflows.find_lr import find_lr, write_range_test
from mrirecon.workflows.fit import fit
from mrirecon.workflows.training_work import MAY_CHANGE, TrainingWork


def train(config: TrainConfig) -> RunFolder:
    """Train from scratch.

    Raises:
        InputError: The configuration or the data is wrong; nothing was written.
        WorkFailedError: Training diverged; the last good checkpoint is kept. Or no learning rate was found.
        Stopped: A signal came; the state is saved.
    """
    if config.output:
        require_replaceable(Path(config.output), config.overwrite)
    work = TrainingWork(config)
    facts = work.provenance()
    found = find_lr(work) if config.optimizer.lr == "find" else None
    run = new_run(config.output, _default_name(config), config.overwrite)
    if found:
        write_range_test(found, run)
        facts["lr_find"] = {
            "lr": found.lr,
            "lr_diverged": found.lr_diverged,
            "lowest": found.lrs[0],
            "steps": len(found.lrs),
        }
    describe(work, run, facts)
    announce(work, run)
    return fit(work, run, None)


def describe(work: TrainingWork, run: RunFolder, facts: dict[str, Any]) -> None:
    """Write what a run is before it begins: configuration, split, provenance."""
    configfile.save(_repeatable(work.config), run.config)
    write_json(run.split, work.data.assignment)
    write_json(run.provenance, facts)


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
    work = reopen(run, changes, given)
    return fit(work, run, str(run.checkpoint("last")))


def reopen(run: RunFolder, changes: TrainConfig, given: Sequence[str] = ()) -> TrainingWork:
    """What it takes to go on with a run from its last checkpoint; see `resume_training`."""
    refused = sorted(set(given) - set(MAY_CHANGE))
    if refused:
        raise InputError(
            f"a resumed run keeps its configuration; '{refused[0]}' cannot change (only {', '.join(MAY_CHANGE)} can). "
            f"To train differently: mrirecon train -c {run.config} --{refused[0]} ..."
        )
    last = run.checkpoint("last")
    if not last.is_file():
        raise InputError(f"{run.path} has no checkpoint yet; start again: mrirecon train -c {run.config}")
    stored = read_settings(last)
    flat = configfile.flatten(configfile.load(TrainConfig, run.config))
    if flat["precision"] == "auto":  # as it was resolved where the run began
        flat["precision"] = stored.get("precision", "auto")
    new = configfile.flatten(changes)
    config = configfile.build(TrainConfig, {**flat, **{key: new[key] for key in given}})
    work = TrainingWork(config)
    work.require_settings(stored, run)
    work.require_same_data(run)
    return work


def _repeatable(config: TrainConfig) -> TrainConfig:
    """What repeats the run from any directory: the data by its full path, no output folder of its own."""
    data = dataclasses.replace(config.data, path=str(Path(config.data.path).resolve()))
    return dataclasses.replace(config, data=data, output="", overwrite=False)


def _default_name(config: TrainConfig) -> str:
    def short(value: Any) -> str:
        return value if isinstance(value, str) else str(value.get("class_path", "custom")).rsplit(".")[-1]

    return f"{short(config.model.norm)}-{short(config.optimizer.name)}"
