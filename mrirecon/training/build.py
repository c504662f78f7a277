"""Build the network of a configuration, and load the trained network of a run folder."""

from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from mrirecon.config import ModelConfig, TrainConfig
from mrirecon.configfile import load
from mrirecon.errors import InputError, unknown_name
from mrirecon.models.norms import make_norm
from mrirecon.runs import RunFolder
from mrirecon.tables.entry import builder, named
from mrirecon.tables.models import MODELS, Model, Seen
from mrirecon.training.checkpoints.read import load_checkpoint
from mrirecon.training.footprint import as_gib, machine_memory, memory_of
from mrirecon.training.prediction import Predict, TrainedNetwork


def build_model(config: ModelConfig) -> nn.Module:
    """Build the network of a configuration, with random weights.

    Raises:
        InputError: A name or a combination that does not exist, or more weights than this machine has memory for.
    """
    require_weights(outline(config), config)
    return _build(config)


def outline(config: ModelConfig) -> nn.Module:
    """Build the network of a configuration on torch's meta device: sizes of the weights without values or memory.

    Raises:
        InputError: A name or a combination that does not exist.
    """
    _checked(config)
    if isinstance(_norm(config), dict):  # may compute while it is made, and has few weights
        with torch.random.fork_rng(devices=[]):
            make_norm(_norm(config), config.channels, **_norm_options(config))
        config = replace(config, norm="none", affine=False, channels_per_group=0, n_groups=0)
    with torch.device("meta"):
        return _build(config)


def require_weights(network: nn.Module, config: ModelConfig, copies: int = 1, device: str = "cpu") -> None:
    """Raise an InputError where so many copies of a network's weights do not fit into the memory of `device`."""
    n = sum(p.numel() for p in network.parameters())
    if copies * 4 * n > machine_memory(device):
        raise InputError(
            f"the network has {n:,} parameters (model.channels {config.channels}, pools {config.pools}): "
            f"{as_gib(copies * 4 * n)}{' with their gradients' if copies > 1 else ''}, and {memory_of(device)}; "
            "use fewer channels or pools"
        )


def seen(config: ModelConfig) -> Seen:
    """Return the entry of `MODELS` for the network's `model.input`.

    Raises:
        InputError: There is no such network, or it does not see that.
    """
    inputs = named(MODELS, config.name, "model").inputs
    if len(inputs) == 1 and config.input == ModelConfig.input:
        return next(iter(inputs.values()))
    return named(inputs, config.input, "model input", f"That is what {config.name} takes.")


def sample_needs(config: ModelConfig) -> tuple[str, ...]:
    """Return the fields of a sample that a network needs; `image` always, for predictions refer to its statistics."""
    return (*seen(config).needs, "image")


def predictor(config: ModelConfig) -> Predict:
    """Return the function of `prediction` for the network of a configuration.

    Raises:
        InputError: From `seen`.
    """
    predict: Predict = builder(seen(config).predict)
    return predict


def smallest_image(config: ModelConfig) -> int:
    """Return the smallest height and width in pixels that the network of a configuration takes."""
    smallest = named(MODELS, config.name, "model").smallest
    return smallest if isinstance(smallest, int) else int(builder(smallest)(config))


def check_image_size(config: ModelConfig, shape: Sequence[int]) -> None:
    """Raise an InputError for images `(height, width)` that the network of a configuration does not take."""
    smallest, side = smallest_image(config), int(min(shape))
    if side >= smallest:
        return
    deepest = max(config.pools, config.sens_pools)
    fitting = [n for n in range(1, deepest) if smallest_image(_with_pools(config, n)) <= side]
    advice = f"use {fitting[-1]} pools or larger images" if fitting else "use larger images"
    what = f"{deepest} pools need" if "pools" in MODELS[config.name].keys else f"{config.name} needs"
    size = " x ".join(str(int(n)) for n in shape)
    raise InputError(f"images of {size} pixels are too small: {what} {smallest} x {smallest}; {advice}")


def check_coils(config: ModelConfig, numbers: Collection[int]) -> None:
    """Raise an InputError for training data, of so many coils, that a configuration's network cannot learn from."""
    check = named(MODELS, config.name, "model").coils
    if check and numbers:
        builder(check)(config, numbers)


def _with_pools(config: ModelConfig, most: int) -> ModelConfig:
    return replace(config, pools=min(config.pools, most), sens_pools=min(config.sens_pools, most))


def _norm(config: ModelConfig) -> dict[str, Any] | str:
    return {"class_path": config.norm} if "." in config.norm else config.norm


def _norm_options(config: ModelConfig) -> dict[str, Any]:
    return {
        "affine": config.affine,
        "channels_per_group": config.channels_per_group or None,
        "n_groups": config.n_groups or None,
    }


def _build(config: ModelConfig) -> nn.Module:
    entry, channels = _checked(config), seen(config).channels
    values = {**{key: getattr(config, key) for key in entry.keys}, "norm": _norm(config), **_norm_options(config)}
    arguments = {key: values[key] for key in entry.keys}
    if channels:
        arguments |= {"in_channels": channels, "out_channels": channels}
    network: nn.Module = builder(entry.build)(**arguments)
    return network


def _checked(config: ModelConfig) -> Model:
    """Return the entry of `MODELS`, having checked that it takes every key that is set."""
    entry, standardiser = named(MODELS, config.name, "model"), MODELS[config.name].standardised_by
    if config.normalize not in ("auto", standardiser):
        if config.normalize not in ("sample", "network"):
            raise unknown_name("normalize", config.normalize, ("auto", "sample", "network"))
        raise InputError(
            f"model.normalize {config.normalize} does not go with model.name {config.name}, whose images are "
            f"standardised once, by the {standardiser}; leave it at auto"
        )
    for key in fields(config):
        value = getattr(config, key.name)
        if key.name not in ("name", "input", "normalize", *entry.keys) and value != key.default:
            raise InputError(
                f"model.{key.name} is {value}, but {config.name} has no such key, only {', '.join(entry.keys)}; "
                "leave it out"
            )
    return entry


def load_reconstructor(run: RunFolder, checkpoint: str = "best", device: str | torch.device = "cpu") -> TrainedNetwork:
    """Load the network of a run in evaluation mode; called on a collated `Sample` it returns `(batch, height, width)`.

    Args:
        run: A run folder.
        checkpoint: See `RunFolder.checkpoint`.
        device: Where it goes.

    Raises:
        InputError: The checkpoint is missing, damaged, not the one that was written, or does not fit the run's
            configuration.
    """
    path = run.checkpoint(checkpoint)
    if not path.is_file():
        raise InputError(
            f"{run.path} has no {path.name}; its training has not validated yet, or kept `last` alone "
            "(--checkpoint last?)"
        )
    config = load(TrainConfig, run.config).model
    network = TrainedNetwork(build_model(config), predictor(config))
    state = load_checkpoint(path)
    try:
        network.load_state_dict(state["state_dict"])
    except Exception as error:
        raise InputError(f"{path} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    network.trained_steps = state.get("global_step")
    return network.to(device).eval()
