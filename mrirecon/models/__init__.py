"""Networks and the choice of their normalization.

Names are loaded when they are first used, so that importing this package costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for type checkers and editors (tested)
    from mrirecon.models.device import auto_precision
    from mrirecon.models.norms import NORMS, make_norm
    from mrirecon.models.normunet import NormUNet
    from mrirecon.models.unet import UNet, check_image_size
    from mrirecon.models.varnet import UNetDC, VarNet

_HOMES = {
    "NORMS": "norms",
    "NormUNet": "normunet",
    "UNet": "unet",
    "UNetDC": "varnet",
    "VarNet": "varnet",
    "auto_precision": "device",
    "check_image_size": "unet",
    "make_norm": "norms",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
