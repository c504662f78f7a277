"""Schedules of the learning rate by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ScheduleEntry:
    """A schedule.

    `build` is the function (moment of the run, `ScheduleConfig`) -> factor of the rate after the warm-up. `falls_at` is
    (`ScheduleConfig`) -> share of the whole run at which the rate begins to fall, where that does not depend on the
    warm-up, which must then end before it.
    """

    help: str
    build: str | Callable[..., float]
    options: tuple[str, ...] = ()  # keys of `ScheduleConfig`
    falls_at: Callable[[Any], float] = lambda _config: 1.0
    is_falling: bool = True


SCHEDULES: dict[str, ScheduleEntry] = {
    "constant": ScheduleEntry("the rate stays", "mrirecon.training.recipe.schedules:constant", is_falling=False),
    "step": ScheduleEntry(
        "one drop",
        "mrirecon.training.recipe.schedules:step",
        options=("step_at", "factor"),
        falls_at=lambda config: config.step_at,
    ),
    "cosine": ScheduleEntry("half a cosine", "mrirecon.training.recipe.schedules:cosine", options=("final",)),
    "onecycle": ScheduleEntry("up and down, each half a cosine", "mrirecon.training.recipe.schedules:onecycle"),
    "linear": ScheduleEntry("a straight line down", "mrirecon.training.recipe.schedules:linear", options=("final",)),
    "polynomial": ScheduleEntry(
        "a power of what is left", "mrirecon.training.recipe.schedules:polynomial", options=("final", "power")
    ),
    "wsd": ScheduleEntry(
        "warm-up, stable, decay",
        "mrirecon.training.recipe.schedules:wsd",
        options=("final", "decay"),
        falls_at=lambda config: 1 - config.decay,
    ),
    "plateau": ScheduleEntry(
        "a drop where the score gets no better",
        "mrirecon.training.recipe.schedules:constant",
        options=("factor", "patience"),
    ),
}
