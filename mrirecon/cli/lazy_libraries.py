"""Libraries that `mrirecon train` loads only where they are used, so that it begins sooner.

Lightning imports torchmetrics whole, and that, for a few names which no training asks for, scipy.signal and
torchvision. `import_torchmetrics` puts forwarding modules in their place meanwhile: such a name loads the real library
when it is used, any other one at once. Nothing is hidden (torchmetrics knows what is installed), nothing of a library
is changed, and only the command's own process does it: who imports mrirecon gets the libraries as they are.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# By module: the names that torchmetrics takes from it, or looks for in it, as it is imported.
FORWARDED = {
    "scipy.signal": ("hamming",),
    "torchvision": ("transforms",),
    "torchvision.models": ("resnet50", "vgg16", "VGG16_Weights"),
}


class _Name:
    """A name of a module that is loaded when the name is called or asked for an attribute."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(_real(self._module), self._name), attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(_real(self._module), self._name)(*args, **kwargs)


class _Forwarding(ModuleType):
    """Has the names of the real module of its name, which is loaded for those that are not in `FORWARDED`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks; without a path it looks for no modules inside
            raise AttributeError(name)
        return _Name(self.__name__, name) if name in FORWARDED[self.__name__] else getattr(_real(self.__name__), name)


def import_torchmetrics() -> None:
    """Import torchmetrics, but neither scipy.signal nor torchvision; what is loaded already stays as it is."""
    if "torchmetrics" in sys.modules:
        return
    specs = {library: find_spec(library) for library in map(_library, FORWARDED)}
    for name in FORWARDED:
        if specs[_library(name)] and name not in sys.modules:
            sys.modules[name] = _Forwarding(name)
            sys.modules[name].__spec__ = specs.get(name)
    try:
        import torchmetrics  # noqa: F401
    except Exception:  # a version that asks for more: who needs it imports it as it is
        for name in [name for name in sys.modules if _library(name) == "torchmetrics"]:
            del sys.modules[name]
    finally:
        for library in specs:
            _uncover(library)


def _real(name: str) -> ModuleType:
    _uncover(_library(name))
    return import_module(name)


def _uncover(library: str) -> None:
    for name in FORWARDED:
        if _library(name) == library and isinstance(sys.modules.get(name), _Forwarding):
            del sys.modules[name]


def _library(module: str) -> str:
    return module.split(".")[0]
