"""Reconstructions, which map a sample to an image: methods without training, and trained networks.

Names are loaded when they are first used, so that importing this package costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrirecon.reconstruct.base import Reconstructor
    from mrirecon.reconstruct.find import find_reconstructor
    from mrirecon.reconstruct.zero_filled import ZeroFilled
    from mrirecon.tables.methods import METHODS

_HOMES = {
    "METHODS": "mrirecon.tables.methods",
    "Reconstructor": "mrirecon.reconstruct.base",
    "ZeroFilled": "mrirecon.reconstruct.zero_filled",
    "find_reconstructor": "mrirecon.reconstruct.find",
}
__all__ = ["METHODS", "Reconstructor", "ZeroFilled", "find_reconstructor"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
