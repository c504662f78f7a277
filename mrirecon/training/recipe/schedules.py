"""Learning rates as closed forms of the step number, so that a resumed run needs no history; plateau alone has one."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mrirecon.config import ScheduleConfig
from mrirecon.errors import InputError, unknown_name
from mrirecon.tables.entry import builder
from mrirecon.tables.schedules import SCHEDULES
from mrirecon.training.recipe.muon import Muon
from mrirecon.training.recipe.optimizers import has_modes

_ONECYCLE_START, _ONECYCLE_END, _ONECYCLE_WARMUP = 1 / 25, 1 / 25e4, 0.3
_SCHEDULE_FREE_WARMUP = 0.05


class Moment(NamedTuple):
    """The place of a step in a run, as shares."""

    of_run: float  # steps done / all steps
    to_end: float  # the same after the warm-up
    to_last: float  # the same, 1 at the last step


def constant(_at: Moment, _config: ScheduleConfig) -> float:
    """Keep the rate."""
    return 1.0


def step(at: Moment, config: ScheduleConfig) -> float:
    """Drop once, to `factor` of the rate, at the share `step_at` of the run.

    fastMRI trains its U-Net so: to a tenth after 40 of 50 epochs.
    """
    return config.factor if at.of_run >= config.step_at else 1.0


def cosine(at: Moment, config: ScheduleConfig) -> float:
    """Fall as half a cosine to `final` (Loshchilov & Hutter 2017, without restarts)."""
    return _down_to(config.final, _cosine(at.to_last))


def onecycle(at: Moment, _config: ScheduleConfig) -> float:
    """Fall as the second part of torch's OneCycleLR (Smith & Topin 2019)."""
    return _down_to(_ONECYCLE_END, _cosine(at.to_last))


def linear(at: Moment, config: ScheduleConfig) -> float:
    """Fall in a straight line to `final`. Equals torch's `LinearLR` from 1 to `final` over what follows the warm-up."""
    return _down_to(config.final, 1 - at.to_end)


def polynomial(at: Moment, config: ScheduleConfig) -> float:
    """Fall to `final` as the share that is left to the power of `power` (Chen et al. 2018, "poly")."""
    return _down_to(config.final, (1 - at.to_end) ** config.power)


def wsd(at: Moment, config: ScheduleConfig) -> float:
    """Keep the rate, then fall in a straight line over the last `decay` of the run (Hu et al. 2024)."""
    return _down_to(config.final, min(1.0, (1 - at.of_run) / config.decay))


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _down_to(final: float, left: float) -> float:
    return final + (1 - final) * left


class PlateauLR(LambdaLR):
    """Multiplies the rate by `factor` after more than `patience` validations without a better score.

    Equals torch's ReduceLROnPlateau with mode max and threshold 0, on top of a warm-up.
    """

    def __init__(self, optimizer: Optimizer, shape: Callable[[int], float], factor: float, patience: int) -> None:
        self.scale, self.best, self.n_worse = 1.0, -math.inf, 0
        self.factor, self.patience = factor, patience
        super().__init__(optimizer, lambda step: shape(step) * self.scale)

    def observe(self, score: float) -> None:
        """Take note of a validation's score, higher is better; a lower rate holds from the next step on.

        Without a warm-up it equals `step` of torch's ReduceLROnPlateau.
        """
        self.n_worse = 0 if score > self.best else self.n_worse + 1
        self.best = max(self.best, score)
        if self.n_worse > self.patience:
            self.scale, self.n_worse = self.scale * self.factor, 0
            for group, base, shape in zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True):
                group["lr"] = base * shape(self.last_epoch)


def make_schedule(optimizer: Optimizer, config: ScheduleConfig, n_steps: int) -> LambdaLR:
    """Build the schedule `config.name` over `n_steps` optimizer steps.

    `onecycle` equals torch's OneCycleLR (cosine, momentum left alone) with `pct_start` = warm-up. `step` and `wsd`
    (Hu et al. 2024; linear decay) count shares of the whole run; the others run over what is left after the warm-up.

    Raises:
        InputError: Unknown name, a value out of range or a warm-up that leaves no step.
    """
    config = resolve_auto(config, optimizer)
    factor = schedule_factor(config, n_steps)
    if config.name == "plateau":
        return PlateauLR(optimizer, factor, config.factor, config.patience)
    return LambdaLR(optimizer, factor)


def resolve_auto(config: ScheduleConfig, optimizer: Optimizer) -> ScheduleConfig:
    """Resolve `auto`: onecycle (Smith & Topin 2019), but constant for Schedule-Free methods (Defazio et al. 2024).

    For these after a warm-up, of 5 % unless given. Muon, whose first step is as long as any other, needs no warm-up:
    it gets `linear`, so that the shortest training spends no step on one.
    """
    if config.name != "auto":
        return config
    if has_modes(optimizer):
        return replace(config, name="constant", warmup=config.warmup or _SCHEDULE_FREE_WARMUP)
    return replace(config, name="linear" if isinstance(optimizer, Muon) else "onecycle")


def schedule_factor(config: ScheduleConfig, n_steps: int) -> Callable[[int], float]:
    """Return the function from the step number (from 0) to the factor of the learning rate.

    In a warm-up the rate grows in a straight line (Goyal et al. 2017), that of `onecycle` along half a cosine, as in
    torch's OneCycleLR.
    """
    if config.name not in SCHEDULES:
        raise unknown_name("schedule", config.name, ("auto", *SCHEDULES))
    entry = SCHEDULES[config.name]
    _check(config)
    warmup = _warmup_steps(config, n_steps)
    drop = entry.falls_at(config) * n_steps
    if warmup and warmup > drop:
        raise InputError(
            f"schedule.warmup takes {warmup:g} of {n_steps} steps; {config.name} lowers the rate at {drop:g}"
        )
    shape, is_onecycle = builder(entry.build), config.name == "onecycle"
    last = max(n_steps - 1, 1)

    def factor(step: int) -> float:
        if step < warmup:
            return 1 + (_ONECYCLE_START - 1) * _cosine(step / warmup) if is_onecycle else (step + 1) / warmup
        to_last = (step - warmup) / (last - warmup) if last > warmup else 0.0
        to_end = (step - warmup) / (n_steps - warmup)
        return shape(Moment(min(step / n_steps, 1.0), min(to_end, 1.0), min(to_last, 1.0)), config)

    return factor


def _check(config: ScheduleConfig) -> None:
    if not (0 <= config.step_at <= 1 and config.factor >= 0):
        raise InputError(
            f"schedule.step_at {config.step_at:g}, factor {config.factor:g}: a share from 0 to 1, and 0 or more"
        )
    if config.name == "plateau" and not config.factor < 1:
        raise InputError(f"schedule.factor {config.factor:g}; plateau lowers the rate, so it must be below 1")
    if not (0 <= config.final <= 1 and config.power > 0 and 0 < config.decay <= 1 and config.patience >= 0):
        raise InputError(
            f"schedule.final {config.final:g}, power {config.power:g}, decay {config.decay:g}, patience "
            f"{config.patience}: a share from 0 to 1, above 0, a share above 0, and 0 or more"
        )


def _warmup_steps(config: ScheduleConfig, n_steps: int) -> float:
    """Compute the steps of the warm-up: torch's OneCycleLR peaks at share x n_steps - 1, others take whole steps."""
    if config.name == "onecycle":
        share = config.warmup or _ONECYCLE_WARMUP
        n_warmup = max(share * n_steps - 1, 0.0) if share < 1 else share
    else:
        n_warmup = round(config.warmup if config.warmup >= 1 else config.warmup * n_steps)
    if config.warmup < 0 or (n_warmup and n_warmup >= n_steps):
        raise InputError(
            f"schedule.warmup {config.warmup:g} leaves none of the {n_steps} steps; use a smaller share, below 1"
        )
    return n_warmup
