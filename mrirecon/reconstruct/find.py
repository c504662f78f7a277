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
from mrirecon.reconstruct.options import MethodCall, option_keys, read_method, set_options
from mrirecon.runs import RunFolder, checkpoint_in_run, open_run
from mrirecon.tables.entry import builder
from mrirecon.tables.methods import METHODS
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
    method, own = read_method(name, config.method), checkpoint_in_run(name)
    if Path(name).is_file() and own is None and method is None:
        return of_file(name, config, device)
    if differing := differing_keys(config.model, ModelConfig()):
        raise InputError(f"model.{differing[0]} describes a file of weights; {name} is none: leave it out")
    if method:
        return _of_method(method, device, config.precision, values or {})
    if not Path(name).exists():
        hint = f"Or give a run folder or a file of weights ({' '.join(ENDINGS)}); there is none at {Path(name)}."
        raise unknown_name("method", name, METHODS, hint)
    run, checkpoint = own or (open_run(name), config.checkpoint)
    return of_run(run, checkpoint, config, device, data)


def check_method(method: MethodCall, may_be_open: bool = True) -> None:
    """Raise an InputError for options that a method cannot be set to.

    Args:
        method: With its options.
        may_be_open: What is to be chosen on data need not be given.
    """
    tried = method.tried if may_be_open else ()
    _built(method.name, {**method.options, **(tried[0] if tried else {})})


def _built(name: str, options: Mapping[str, Any]) -> Any:
    keys = option_keys(METHODS[name])
    return builder(METHODS[name].build)(**{keys[option].name: value for option, value in options.items()})


def _of_method(method: MethodCall, device: torch.device, precision: str, values: Mapping[str, Any]) -> Reconstructor:
    name, options = method.name, {**method.options, **values}
    # a folder for each set of options, so that tables of one folder are of one thing
    words = [f"{option}-{value}" for option, value in set_options(name, method.options).items()]
    return Reconstructor(
        name,
        _built(name, options),
        RunFolder(Path("runs") / re.sub(r"[^\w.+-]+", "_", "-".join([name, *words]))),
        device,
        precision,
        check_image_size=partial(require_size, name, METHODS[name].smallest),
        needs=METHODS[name].needs,
        options=set_options(name, options),
        method_options=options,
    )
