"""Learning rates as closed forms of the step number, so that a resumed run needs no history."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mrirecon.config import ScheduleConfig
from mrirecon.errors import InputError, unknown_name

_ONECYCLE_START, _ONECYCLE_END, _ONECYCLE_WARMUP = 1 / 25, 1 / 25e4, 0.3
Shape = Callable[[float, ScheduleConfig], float]  # progress after warm-up in [0, 1] -> factor


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Shape] = {
    "constant": lambda _progress, _config: 1.0,
    "step": lambda progress, config: config.factor if progress >= config.step_at else 1.0,
    "cosine": lambda progress, _config: _cosine(progress),
    "onecycle": lambda progress, _config: _ONECYCLE_END + (1 - _ONECYCLE_END) * _cosine(progress),
}


def make_schedule(optimizer: Optimizer, config: ScheduleConfig, n_steps: int) -> LambdaLR:
    """The schedule `config.name` over `n_steps` optimizer steps.

    `onecycle` equals torch's OneCycleLR (cosine, momentum left alone) with `pct_start` = warm-up. `step` is a
    share of the whole run; the others run over what is left after the warm-up.

    Raises:
        InputError: Unknown name or a warm-up that leaves no step.
    """
    factor = schedule_factor(config, n_steps)
    return LambdaLR(optimizer, factor)


def schedule_factor(config: ScheduleConfig, n_steps: int) -> Callable[[int], float]:
    """Step number (from 0) to the factor of the learning rate."""
    if config.name not in SCHEDULES:
        raise unknown_name("schedule", config.name, SCHEDULES)
    if not (0 <= config.step_at <= 1 and config.factor >= 0):
        raise InputError(
            f"schedule.step_at {config.step_at:g}, factor {config.factor:g}: a share from 0 to 1, and 0 or more"
        )
    warmup = _warmup_steps(config, n_steps)
    shape, onecycle = SCHEDULES[config.name], config.name == "onecycle"
    last = max(n_steps - 1, 1)

    def factor(step: int) -> float:
        if step < warmup:
            return 1 + (_ONECYCLE_START - 1) * _cosine(step / warmup) if onecycle else (step + 1) / warmup
        if config.name == "step":
            return shape(step / n_steps, config)
        progress = (step - warmup) / max(last - warmup, 1e-12) if last > warmup else 0.0
        return shape(min(progress, 1.0), config)

    return factor


def _warmup_steps(config: ScheduleConfig, n_steps: int) -> float:
    """torch's OneCycleLR peaks at share x n_steps - 1; a plain linear warm-up takes whole steps, never a rate of 0."""
    if config.warmup < 0 or (config.warmup >= 1 and config.warmup >= n_steps):
        raise InputError(f"schedule.warmup {config.warmup:g} leaves none of the {n_steps} steps; use a share below 1")
    if config.name == "onecycle":
        share = config.warmup or _ONECYCLE_WARMUP
        return max(share * n_steps - 1, 0.0) if share < 1 else share
    return config.warmup if config.warmup >= 1 else round(config.warmup * n_steps)
