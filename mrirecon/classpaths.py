"""Classes named in configuration files: `{class_path: torch.nn.BatchNorm2d, init_args: {...}}`.

A configuration names code, so a stranger's run folder must not run any: only classes defined below a few
prefixes are resolved, anything else needs the prefix spelled out by the caller (`--allow-import PREFIX`).
"""

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from mrirecon.errors import InputError, did_you_mean

ALLOWED_PREFIXES = ("mrirecon.", "torch.nn.", "torch.optim.", "timm.optim.", "schedulefree.")
# What has moved within the package: the dotted path of a class or a module that users' files may name -> its path now.
MOVED: dict[str, str] = {
    "mrirecon.classical": "mrirecon.reconstruct",
    "mrirecon.workflows.reconstructor.NetworkUse": "mrirecon.reconstruct.network.NetworkUse",
    "mrirecon.workflows.reconstructor.Reconstructor": "mrirecon.reconstruct.base.Reconstructor",
    "mrirecon.models.blocks": "mrirecon.models.unet",
    "mrirecon.models.unet_dc": "mrirecon.models.varnet",
    "mrirecon.training.averages": "mrirecon.training.recipe.averages",
    "mrirecon.training.checkpoint_files": "mrirecon.training.checkpoints.write",
    "mrirecon.training.checkpoint_hashes": "mrirecon.training.checkpoints.read",
    "mrirecon.training.curves": "mrirecon.training.loop.curves",
    "mrirecon.training.ddp": "mrirecon.workflows.fit",
    "mrirecon.training.evaluated": "mrirecon.training.recipe.averages",
    "mrirecon.training.freezing": "mrirecon.training.recipe.freezing",
    "mrirecon.training.full_disk": "mrirecon.workflows.fit",
    "mrirecon.training.given_weights": "mrirecon.training.checkpoints.weights_files",
    "mrirecon.training.going_on": "mrirecon.workflows.fit",
    "mrirecon.training.journal": "mrirecon.training.loop.curves",
    "mrirecon.training.loggers": "mrirecon.training.loop.loggers",
    "mrirecon.training.loop.at_step": "mrirecon.training.loop.validate_and_keep",
    "mrirecon.training.loop.plan": "mrirecon.workflows.setup.training_work",
    "mrirecon.training.loop.ddp": "mrirecon.workflows.fit",
    "mrirecon.training.loop.fit_errors": "mrirecon.workflows.fit",
    "mrirecon.training.losses": "mrirecon.training.recipe.losses",
    "mrirecon.training.model_summary": "mrirecon.training.footprint",
    "mrirecon.training.optimizers": "mrirecon.training.recipe.optimizers",
    "mrirecon.training.optimizers.Method": "mrirecon.tables.optimizers.OptimizerEntry",
    "mrirecon.training.plan": "mrirecon.workflows.setup.training_work",
    "mrirecon.training.range_test": "mrirecon.training.recipe.lr_finder",
    "mrirecon.training.schedules": "mrirecon.training.recipe.schedules",
    "mrirecon.training.stopping": "mrirecon.termination",
    "mrirecon.training.sync_batchnorm": "mrirecon.training.recipe.batchnorm",
    "mrirecon.training.traces": "mrirecon.training.loop.curves",
    "mrirecon.training.validation": "mrirecon.training.loop.validation",
    "mrirecon.training.keeper.Keeper": "mrirecon.training.loop.validate_and_keep.StepControl",
}
_KEYS = ("class_path", "init_args")
# Names without underscores at both ends: importing a __main__ would run a program.
_PATH = re.compile(r"(?!__)[^\W\d]\w*(\.(?!__)[^\W\d]\w*){1,19}")
_allowed_here: list[str] = []  # by --allow-import, for this process


def allow_import(prefix: str) -> None:
    """Allow classes below `prefix` in this process; only the command line calls it, never a file."""
    _allowed_here.append(prefix)


def allowed_here() -> tuple[str, ...]:
    """Return the prefixes that `allow_import` has allowed, for processes that are started to work for this one."""
    return tuple(_allowed_here)


def resolve_class(spec: str | Mapping[str, Any], extra_prefixes: Iterable[str] = ()) -> Callable[..., Any]:
    """The class of a class path, with its `init_args` bound as keyword arguments; the form is that of LightningCLI.

    Args:
        spec: `"torch.nn.BatchNorm2d"` or `{"class_path": "torch.nn.BatchNorm2d", "init_args": {"eps": 1e-3}}`.
        extra_prefixes: Packages or modules that the user allows besides `ALLOWED_PREFIXES`.

    Raises:
        InputError: A malformed mapping, a prefix that is not allowed, or a class that does not exist.
    """
    path, init_args = _parts(spec)
    prefixes = [
        *ALLOWED_PREFIXES,
        *(f"{prefix.rstrip('.')}." for prefix in [*extra_prefixes, *_allowed_here]),
    ]
    if not path.startswith(tuple(prefixes)):
        known = " ".join(prefixes)
        suggestion = did_you_mean(".".join(path.split(".")[:-1]) + ".", prefixes)
        raise InputError(
            f"class path '{path}' may not be imported{suggestion or ';'} it must start with one of {known}"
            f" or be allowed with --allow-import {path.split('.')[0]}"
        )
    if not _PATH.fullmatch(path):
        raise InputError(f"class path {path[:100]!r} is none; it is names joined by dots, such as torch.nn.BatchNorm2d")
    found = _find(_today(path))
    # A module also shows what it imported: torch.nn.x.os would be someone else's code.
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(tuple(prefixes)):
        raise InputError(f"'{path}' is not a class of its own package; give the path where the class is defined")
    return partial(found, **init_args) if init_args else found


def construct(spec: str | Mapping[str, Any], *arguments: Any) -> Any:
    """An object of a class path.

    Raises:
        InputError: From `resolve_class`, or arguments that the class does not take.
    """
    made_by = resolve_class(spec)
    try:
        return made_by(*arguments)
    except Exception as error:  # a class raises what it likes
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{_parts(spec)[0]} cannot be made with {_parts(spec)[1]}: {reason}") from error


def _parts(spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping):
        raise InputError(f"got {spec!r}; a class is given by its path or by a mapping with class_path and init_args")
    for key in spec:
        if key not in _KEYS:
            raise InputError(f"unknown key '{key}' beside class_path{did_you_mean(str(key), _KEYS)} Known: {_KEYS}")
    path, init_args = spec.get("class_path"), spec.get("init_args") or {}
    if not isinstance(path, str) or not path:
        raise InputError(f"class_path is missing in {dict(spec)}; for example class_path: torch.nn.BatchNorm2d")
    if not isinstance(init_args, Mapping) or not all(isinstance(key, str) for key in init_args):
        raise InputError(f"init_args of {path} must be a mapping of names to values, got {init_args!r}")
    return path, dict(init_args)


def _today(path: str) -> str:
    """The path that a class of an earlier version has now; the longest path in `MOVED` that it begins with counts."""
    parts = path.split(".")
    for n in range(len(parts), 0, -1):
        if new := MOVED.get(".".join(parts[:n])):
            return ".".join([new, *parts[n:]])
    return path


def _find(path: str) -> Any:
    """The object at the end of a dotted path; only the last part is an attribute, the rest is a module."""
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module runs when it is imported
        raise InputError(f"class path '{path}': cannot import '{module_name}' ({error})") from None
    if not name or not hasattr(module, name):
        raise InputError(f"'{module_name}' has no class '{name}'{did_you_mean(name, dir(module))}")
    return getattr(module, name)
