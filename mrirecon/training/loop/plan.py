"""The plan of a training: numbers of steps, of batches for each and of validations."""

import math
from dataclasses import dataclass

from mrirecon.config import TrainConfig
from mrirecon.configfile import flatten, require_ranges
from mrirecon.errors import InputError, unknown_name
from mrirecon.evaluation.stats import monitors
from mrirecon.tables.optimizers import find_optimizer

CHECKPOINTS = ("all", "end")
_DEFAULT_EPOCHS = 50
_LARGEST_INT, _LARGEST_FLOAT = 2**53, 1e30  # beyond them single precision, or a table, cannot hold a setting
_MOST_OF_A_MACHINE = 4096


@dataclass(frozen=True)
class Plan:
    """The numbers of a run, all resolved."""

    n_steps: int  # optimizer steps
    accumulate: int  # batches per step
    val_every: int  # steps
    epochs: float


def check_numbers(config: TrainConfig) -> None:
    """Raise an InputError for a number out of range, two limits at once, an unknown kind of checkpoints or score."""
    _require_possible(config)
    require_ranges(config)
    for name, value in (("threads", config.threads), ("data.workers", config.data.workers)):
        if value > _MOST_OF_A_MACHINE:
            raise InputError(f"{name} is {value}; at most {_MOST_OF_A_MACHINE}")
    if not isinstance(config.optimizer.lr, str) and not config.optimizer.lr > 0:
        raise InputError(f"--lr {config.optimizer.lr:g}; it must be above 0 (or auto, or find)")
    if config.max_steps and config.max_epochs:
        raise InputError(f"max_steps {config.max_steps} and max_epochs {config.max_epochs} were both given; give one")
    if config.checkpoints not in CHECKPOINTS:
        raise unknown_name("checkpoints", config.checkpoints, CHECKPOINTS)
    if config.monitor not in monitors():
        raise unknown_name("monitor", config.monitor, monitors())
    method = config.optimizer.name
    if _takes_whole_set(config) and config.optimizer.lr == "find":
        raise InputError(
            f"--lr find with {method} would pass 140 times over the training set; find the rate with sgd, or give it"
        )
    if _takes_whole_set(config) and config.accumulate != 1:
        raise InputError(f"{method} uses all training slices in each step; leave accumulate at 1 (or use sgd)")


def _takes_whole_set(config: TrainConfig) -> bool:
    method = find_optimizer(config.optimizer.name)
    return method is not None and method.whole_set


def _require_possible(config: TrainConfig) -> None:
    """Raise an InputError for numbers that are none, or that no setting has."""
    for key, values in flatten(config).items():
        for value in values if isinstance(values, list) else [values]:
            limit = _LARGEST_INT if isinstance(value, int) else _LARGEST_FLOAT
            if isinstance(value, int | float) and not abs(value) <= limit:
                raise InputError(f"{key} is {value}; it must be a number between {-limit:.4g} and {limit:.4g}")


def make_plan(config: TrainConfig, batches_per_epoch: int) -> Plan:
    """Resolve `max_steps`, `max_epochs`, `accumulate` and `val_every` for a training set.

    A method that takes the whole training set in each step (`gd`) accumulates over it.

    Raises:
        InputError: The training set is empty.
    """
    if batches_per_epoch < 1:
        raise InputError("the training set has no batch; it needs at least one slice")
    accumulate = batches_per_epoch if _takes_whole_set(config) else config.accumulate
    steps_per_epoch = batches_per_epoch / accumulate
    n_steps = config.max_steps or math.ceil((config.max_epochs or _DEFAULT_EPOCHS) * steps_per_epoch)
    val_every = config.val_every or max(1, round(steps_per_epoch))
    return Plan(n_steps, accumulate, min(val_every, n_steps), n_steps / steps_per_epoch)
