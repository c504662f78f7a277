"""Training: the Lightning module, optimizers, schedules and losses by name.

Names are loaded when they are first used, so that importing this package costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for type checkers and editors (tested)
    from mrirecon.training.build import build_model, load_reconstructor
    from mrirecon.training.checkpoints.weights_files import load_portable
    from mrirecon.training.module import ReconModule
    from mrirecon.training.recipe.losses import LOSSES, make_loss
    from mrirecon.training.recipe.optimizers import OPTIMIZERS, make_optimizer
    from mrirecon.training.recipe.schedules import SCHEDULES, make_schedule

_HOMES = {
    "LOSSES": "recipe.losses",
    "OPTIMIZERS": "recipe.optimizers",
    "SCHEDULES": "recipe.schedules",
    "ReconModule": "module",
    "build_model": "build",
    "load_portable": "checkpoints.weights_files",
    "load_reconstructor": "build",
    "make_loss": "recipe.losses",
    "make_optimizer": "recipe.optimizers",
    "make_schedule": "recipe.schedules",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
