"""Print what was decided of a training before its first step, defaults included."""

import dataclasses
from typing import Any

import torch

from mrirecon import ranks
from mrirecon.config.train import short_name
from mrirecon.data.masking import masks_used
from mrirecon.progress import say
from mrirecon.report.numbers import masks_in_words
from mrirecon.runs import RunFolder
from mrirecon.tables.schedules import SCHEDULES
from mrirecon.training.recipe.averages import OptimizerAverage
from mrirecon.training.recipe.batchnorm import batch_norms
from mrirecon.workflows.setup.training_work import TrainingWork


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
    network = f"{config.model.name} of {config.model.input} images"
    say(f"network     {network}, {work.device}, {work.precision}, {_threads()}")
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
        shown = dataclasses.asdict(values)
        if name == "optimizer" and work.lr_is_recommended:
            shown["lr"] = f"{shown['lr']:g}, recommended for {short_name(config.optimizer.name)}"
        say(f"{name:<11} {_listed(shown)}")
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


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value not in (None, [], ""))


def _threads() -> str:
    n = torch.get_num_threads()
    return f"{n} thread{'s' if n > 1 else ''}"
