"""Weights in one safetensors file that says which network they belong to; nothing in it runs when it is read."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from torch import nn

import mrirecon
from mrirecon.config import ModelConfig
from mrirecon.configfile import build
from mrirecon.errors import InputError
from mrirecon.files import replacing
from mrirecon.training.build import build_model
from mrirecon.training.deployable import Deployable, deployable

VERSION = "1"  # of the header's keys


def save_portable(model: nn.Module, config: ModelConfig, path: str | os.PathLike[str]) -> None:
    """Write the weights of `model`, under the names of its state dict, with `config` as JSON in the header."""
    from safetensors.torch import save

    header = {
        "format": "pt",  # what other readers of safetensors look for
        "mrirecon_format": VERSION,
        "mrirecon_version": mrirecon.__version__,
        "model": json.dumps(asdict(config)),
    }
    tensors = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, header))  # save_file makes it unreadable for others


def load_portable(path: str | os.PathLike[str]) -> Deployable:
    """The network of a file of `save_portable`, ready for images.

    Raises:
        InputError: No such file, not one of these, or weights that do not fit its configuration.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, safe_open

    if not Path(path).is_file():
        raise InputError(f"no file at {path}; give the .safetensors file of `mrirecon export`")
    try:
        with safe_open(str(path), "pt") as file:
            config = stored_model(file.metadata() or {}, path)
            model = build_model(config)
        model.load_state_dict(load_file(str(path)))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise InputError(f"{path} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    return deployable(model, config)


def stored_model(header: dict[str, str], path: str | os.PathLike[str]) -> ModelConfig:
    """The network that a header of `save_portable` names.

    Raises:
        InputError: There is no such header, or it is of another version.
    """
    version = header.get("mrirecon_format")
    if version != VERSION:
        raise InputError(f"{path} has format {version}, this version of mrirecon reads {VERSION}; export the run again")
    return build(ModelConfig, json.loads(header["model"]))
