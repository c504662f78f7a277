"""Find the reconstructor that a word names: a method, a trained run or a file of weights."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mrirecon.config import ModelConfig
from mrirecon.errors import InputError, unknown_name
from mrirecon.reconstruct.base import Reconstructor, require_size
from mrirecon.reconstruct.network import NetworkUse, differing_keys, of_file, of_run
from mrirecon.reconstruct.options import method_options, option_keys, require_method, set_options, tried_values
from mrirecon.runs import RunFolder, checkpoint_in_run, open_run
from mrirecon.tables.entry import builder
from mrirecon.tables.methods import METHODS, Method
from mrirecon.training.checkpoints.weights_files import ENDINGS


def find_reconstructor(
    name: str, config: NetworkUse, device: torch.device, data: str = "", values: Mapping[str, Any] | None = None
) -> Reconstructor:
    """Find the method called `name`, else the run or the weights at `name`, with BatchNorm statistics as configured.

    Args:
        name: A name of `METHODS`, a run folder, a checkpoint in one (in place of `checkpoint`), or a file of weights.
        config: How a network is used, and what a method is set to.
        device: Where it computes.
        data: Data folder to recalibrate BatchNorm with, where that of the training is gone.
        values: Of options of a method that the call leaves open; its evaluations go where they go without them.

    Raises:
        InputError: None of them, options that it has not, or weights that cannot be loaded.
    """
    own = checkpoint_in_run(name)
    require_method(name, list(config.method))
    if Path(name).is_file() and own is None and name not in METHODS:
        return of_file(name, config, device)
    if differing := differing_keys(config.model, ModelConfig()):
        raise InputError(f"model.{differing[0]} describes a file of weights; {name} is none: leave it out")
    if name in METHODS:
        return _of_method(name, config, device, values or {})
    if not Path(name).exists():
        hint = f"Or give a run folder or a file of weights ({' '.join(ENDINGS)}); there is none at {Path(name)}."
        raise unknown_name("method", name, METHODS, hint)
    run, checkpoint = own or (open_run(name), config.checkpoint)
    return of_run(run, checkpoint, config, device, data)


def check_method(name: str, given: Mapping[str, Any], may_be_open: bool = True) -> None:
    """Raise an InputError for options that the method `name` has not or cannot be set to.

    What is no method is not looked at.

    Args:
        name: Of a method, or anything.
        given: Values by the options' names.
        may_be_open: What is to be chosen on data need not be given.
    """
    if name in METHODS:
        tried = tried_values(name, given) if may_be_open else []
        _built(METHODS[name], method_options(name, given) | (tried[0] if tried else {}))


def _built(method: Method, options: Mapping[str, Any]) -> Any:
    keys = option_keys(method)
    return builder(method.build)(**{keys[option].name: value for option, value in options.items()})


def _of_method(name: str, config: NetworkUse, device: torch.device, values: Mapping[str, Any]) -> Reconstructor:
    method, options = METHODS[name], method_options(name, config.method)
    # a folder for each set of options, so that tables of one folder are of one thing
    words = "-".join([name, *(f"{option}-{value}" for option, value in set_options(name, options).items())])
    options |= values
    return Reconstructor(
        name,
        _built(method, options),
        RunFolder(Path("runs") / re.sub(r"[^\w.+-]+", "_", words)),
        device,
        config.precision,
        check_image_size=partial(require_size, name, method.smallest),
        needs=method.needs,
        options=set_options(name, options),
        method_options=options,
    )
