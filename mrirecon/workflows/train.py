"""Training, from a configuration to a run folder."""

import copy
import csv
import dataclasses
from pathlib import Path
from typing import Any

import torch

from mrirecon import configfile, ranks
from mrirecon.cluster.join import joined
from mrirecon.cluster.requeue import coming_back, slurm_facts
from mrirecon.config import TrainConfig
from mrirecon.config.train import run_name, short_name
from mrirecon.data.folders.manifest import write_record
from mrirecon.data.folders.stage import staging
from mrirecon.data.mask_choice import masks_used
from mrirecon.files import replacing, write_json
from mrirecon.models.device import autocast
from mrirecon.progress import progress, say
from mrirecon.report.figures.run_curves import draw_range_test
from mrirecon.report.words import masks_in_words
from mrirecon.runs import RunFolder, default_path, new_run, require_replaceable
from mrirecon.tables.augmentations import amounts
from mrirecon.tables.models import own_settings
from mrirecon.tables.schedules import SCHEDULES
from mrirecon.tables.transforms import TRANSFORMS
from mrirecon.training.recipe.averages import OptimizerAverage
from mrirecon.training.recipe.batchnorm import batch_norms
from mrirecon.training.recipe.lr_finder import N_STEPS, RangeTest, range_test
from mrirecon.workflows.resume import (
    fit_or_name_what_is_kept,
    go_on,
    left_by_this_job,
    named_by_job,
    repeatable,
    resume_training,  # noqa: F401 - it was here before
    say_started_again,
    written_by_us,
)
from mrirecon.workflows.setup.training_work import TrainingWork, build_module


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
        return go_on(RunFolder(Path(config.output)), config)
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
        return fit_or_name_what_is_kept(work, run, None, lock)


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
