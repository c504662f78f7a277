"""Tries a cell before anything is queued: two steps and one validation batch, timed."""

import time
from dataclasses import dataclass, replace

import torch

from mrirecon.config import TrainConfig
from mrirecon.data.samples import to_device
from mrirecon.models.device import autocast
from mrirecon.models.memory import keep_freed_memory
from mrirecon.workflows.setup.training_work import TrainingWork


@dataclass(frozen=True)
class Cost:
    """What a run of a cell costs on this machine."""

    step_seconds: float
    slice_seconds: float  # of validation
    n_steps: int
    n_validations: int
    n_val_slices: int
    n_parameters: int


def probe(config: TrainConfig, n_steps: int = 2) -> Cost:
    """Do `n_steps` optimizer steps and one validation batch.

    Raises:
        InputError, WorkFailedError, RuntimeError: The cell cannot run; the message says why.
    """
    work = TrainingWork(replace(config, precision=config.precision))
    if work.device == "cpu":
        keep_freed_memory()
    device = torch.device(work.device)
    module = work.module.to(device).train()
    optimizer = module.configure_optimizers()["optimizer"]
    if hasattr(optimizer, "train"):
        optimizer.train()
    seconds = []
    batches = iter(work.data.first_batches(n_steps * min(work.plan.accumulate, 2)))
    for _ in range(n_steps):
        began = time.perf_counter()
        optimizer.zero_grad()
        for _ in range(min(work.plan.accumulate, 2)):
            with autocast(device, work.precision):
                loss = module.sample_loss(to_device(next(batches), device))
            loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    loader = work.data.val_dataloader()[0]
    began = time.perf_counter()
    module.eval()
    with torch.inference_mode(), autocast(device, work.precision):
        n = len(module.predict(module.model, to_device(next(iter(loader)), device)).image)
    took = time.perf_counter() - began
    return Cost(
        min(seconds) * work.plan.accumulate / min(work.plan.accumulate, 2),
        took / n,
        work.plan.n_steps,
        work.plan.n_steps // work.plan.val_every,
        sum(len(one.dataset.items) for one in work.data.val_dataloader()),  # type: ignore[attr-defined, misc]
        sum(p.numel() for p in module.model.parameters()),
    )
