"""Training, from a configuration to a run folder; and going on with a stopped one."""

import copy
import csv
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch

from mrirecon import configfile, ranks
from mrirecon.cluster.jobs import batch_job, this_job
from mrirecon.cluster.join import joined
from mrirecon.cluster.requeue import coming_back, restarts, slurm_facts, was_begun_here
from mrirecon.config import TrainConfig
from mrirecon.config.train import run_name, short_name
from mrirecon.data.folders.manifest import write_record
from mrirecon.data.folders.stage import staging
from mrirecon.data.mask_choice import masks_used
from mrirecon.errors import DataChangedError, InputError
from mrirecon.files import read_json, replacing, write_json
from mrirecon.models.device import autocast
from mrirecon.progress import progress, say, warn
from mrirecon.report.figures.run_curves import draw_range_test
from mrirecon.report.words import masks_in_words
from mrirecon.runs import WRITTEN_IN_TRAINING, RunFolder, RunLock, default_path, new_run, open_run, require_replaceable
from mrirecon.tables.augmentations import amounts
from mrirecon.tables.models import own_settings
from mrirecon.tables.schedules import SCHEDULES
from mrirecon.tables.transforms import TRANSFORMS
from mrirecon.training.checkpoints.read import resumable, what_is_kept
from mrirecon.training.loop.validate_and_keep import read_settings
from mrirecon.training.recipe.averages import OptimizerAverage
from mrirecon.training.recipe.batchnorm import batch_norms
from mrirecon.training.recipe.lr_finder import N_STEPS, RangeTest, range_test
from mrirecon.workflows.fit import fit
from mrirecon.workflows.setup.training_work import MAY_CHANGE, TrainingWork, build_module


def train(config: TrainConfig) -> RunFolder:
    """Train from scratch; with several processes each calls this.

    Raises:
        InputError: The configuration or the data is wrong; nothing was written.
        WorkFailedError: Training diverged; the last good checkpoint is kept. Or no learning rate was found.
        Stopped: A signal came; the state is saved.
    """
    with joined(config):
        config = named_by_job(config)
        with coming_back(RunFolder(Path(config.output)).slurm), staging(config.data.stage):
            return _train(config)


def _train(config: TrainConfig) -> RunFolder:
    begun = ranks.from_first(lambda: left_by_this_job(config))
    if begun:
        say_started_again(config)
    if begun == "checkpoint":
        return _go_on(RunFolder(Path(config.output)), config)
    config = dataclasses.replace(config, overwrite=config.overwrite or begun == "nothing")
    if config.output:
        ranks.from_first(lambda: require_replaceable(Path(config.output), config.overwrite))
    with ranks.agreeing():
        work = TrainingWork(config)
        facts = work.provenance() | slurm_facts()
        work.compile()
    found = find_lr(work) if config.optimizer.lr == "find" else None
    name = run_name(config)
    run = RunFolder(Path(ranks.from_first(lambda: config.output or str(default_path(name)))))
    with written_by_us(run) as lock:
        ranks.from_first(lambda: str(new_run(run.path, name, config.overwrite).path))
        if found:
            write_range_test(found, run)
            facts["lr_find"] = {
                "lr": found.lr,
                "lr_diverged": found.lr_diverged,
                "lowest": found.lrs[0],
                "steps": len(found.lrs),
            }
        if ranks.is_first():
            describe(work, run, facts)
            announce(work, run)
        return _fit(work, run, None, lock)


def find_lr(work: TrainingWork) -> RangeTest:
    """The range test (Smith 2017) on first batches and a copy of the network; `work` then has the rate found.

    Raises:
        WorkFailedError: No rate made the loss fall.
    """
    config, accumulate = work.config, work.plan.accumulate
    device = torch.device(work.device)
    module = build_module(config, work.module.optimizer, work.design, copy.deepcopy(work.model), work.plan.n_steps).to(
        device
    )
    batches = progress(work.data.first_batches(N_STEPS * accumulate), "learning rate range test", unit="batches")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        found = range_test(module, batches, accumulate, config.clip, lambda: autocast(device, work.precision))
    work.set_lr(found.lr)
    return found


def write_range_test(found: RangeTest, run: RunFolder) -> None:
    """`lr-find.csv` and the picture in the run folder; says what was found."""
    with replacing(run.lr_find) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("lr", "loss", "smoothed"))
        writer.writerows(zip(found.lrs, found.losses, found.smoothed, strict=True))
    picture = run.figures / "lr-find.png"
    draw_range_test(picture, found.lrs, found.losses, found.smoothed, found.lr)
    diverged = f"; at {found.lr_diverged:.1e} it diverged" if found.lr_diverged else ""
    say(f"lr          {found.lr:g}, a tenth of the rate with the least loss{diverged} (see {picture})")


def _fit(work: TrainingWork, run: RunFolder, checkpoint: str | None, lock: RunLock) -> RunFolder:
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


def describe(work: TrainingWork, run: RunFolder, facts: dict[str, Any]) -> None:
    """Write what a run is before it begins: configuration, split, record of the data, provenance."""
    configfile.save(repeatable(work.config), run.config)
    write_json(run.split, work.data.assignment)
    write_record(run.data, work.data.volumes)
    write_json(run.provenance, facts)


def announce(work: TrainingWork, run: RunFolder) -> None:
    """Print the lines to stderr, unless quiet."""
    data, plan, config = work.data, work.plan, work.config
    say(f"run folder  {run.path}")
    say(
        f"data        {len(data.train_volumes)} training volumes ({len(data.train_set)} slices), "
        f"{len(data.val_volumes)} validation volumes"
    )
    for note in [*data.notes, *_advice(work)]:
        say(f"note        {note}")
    masks, val_masks = (masks_in_words(masks_used(data.spec, v)) for v in (data.train_volumes, data.val_volumes))
    say(f"masks       {masks}{', the same in every epoch' if config.data.fixed_masks else ''}")
    if val_masks != masks:
        say(f"            in validation: {val_masks}")
    if changes := amounts(config.augment):
        words = ", ".join(f"{name} {value:g}" for name, value in changes.items())
        say(f"augment     {words}; in training alone, before the masks")
    sees = own_settings(config.model)["input"]
    network = f"{config.model.name} of {sees}{' images' * (sees in TRANSFORMS)}"
    n = torch.get_num_threads()
    threads = f"{n} thread{'s' if n > 1 else ''}"
    say(f"network     {network}, {work.device}, {work.precision}, {threads}")
    say(f"size        {work.summary}")
    if work.given is not None:
        say(f"weights     {work.given}")
    if config.freeze:
        say(f"frozen      {work.module.frozen}")
    say(
        f"plan        {plan.n_steps} steps x {work.slices_per_step} slices{_factors(work)} "
        f"({plan.epochs:.1f} epochs), validation every {plan.val_every} steps, protocol {work.protocol.name}"
    )
    groups: dict[str, Any] = {"model": config.model, "optimizer": config.optimizer, "schedule": work.schedule}
    if config.average.name != "none":
        groups["average"] = config.average
    for name, values in groups.items():
        shown = own_settings(values) if name == "model" else dataclasses.asdict(values)
        if name == "optimizer" and work.lr_is_recommended:
            shown["lr"] = f"{shown['lr']:g}, recommended for {short_name(config.optimizer.name)}"
        words = ", ".join(f"{key} {value}" for key, value in shown.items() if value not in (None, [], ""))
        say(f"{name:<11} {words}")
    by = "" if config.monitor == "ssim" else f", best by {config.monitor}"
    say(f"loss        {config.loss}, clip {config.clip or 'off'}, seed {config.seed}{by}")


def _advice(work: TrainingWork) -> list[str]:
    """Word what was asked for and is done, but is seldom what one wants."""
    advice = []
    schedule_free = isinstance(work.module.evaluated.average, OptimizerAverage)
    if schedule_free and SCHEDULES[work.schedule.name].is_falling:
        advice.append(
            f"Schedule-Free methods want a constant rate; {work.schedule.name} lets it fall (--schedule auto)"
        )
    n, local, has_batch_norm = ranks.world_size(), work.config.batch_size, bool(batch_norms(work.model))
    if work.config.sync_batchnorm and not (n > 1 and has_batch_norm):
        why = "the network has no BatchNorm" if n > 1 else "one process has the whole batch"
        advice.append(f"--sync-batchnorm has no effect, {why}")
    elif has_batch_norm and n > 1 and not work.config.sync_batchnorm:
        advice.append(
            f"BatchNorm normalises with the {local} slices of each process, its running statistics are those of the "
            f"first one (--sync-batchnorm: with all {local * n})"
        )
    return advice


def _factors(work: TrainingWork) -> str:
    """Word the factors of a step's number of slices, unless it is one batch."""
    factors = {"processes": ranks.world_size(), "accumulated batches": work.plan.accumulate}
    shown = [f"{n} {name}" for name, n in factors.items() if n > 1]
    return f" ({' x '.join([f'batches of {work.config.batch_size}', *shown])})" if shown else ""


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
        return _go_on(run, changes, given)


def _go_on(run: RunFolder, changes: TrainConfig, given: Sequence[str] = ()) -> RunFolder:
    with written_by_us(run) as lock:
        for folder in WRITTEN_IN_TRAINING:
            run.require_inside(run.path / folder)
        with ranks.agreeing():
            work, checkpoint = reopen(run, changes, given)
        if ranks.is_first() and slurm_facts():
            write_json(run.provenance, read_json(run.provenance) | slurm_facts())
        return _fit(work, run, str(checkpoint), lock)


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
    for key, open_value in (("optimizer.lr", "find"), ("model.residual", "auto")):  # the folder has what was decided
        if wanted[key] == open_value:
            found[key] = open_value
    return bool(found == wanted)
