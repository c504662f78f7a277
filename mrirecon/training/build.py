"""Build the network of a configuration, and load the trained network of a run folder."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
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


@dataclass(frozen=True)
class Design:
    """The network of a configuration: what there is to know of it before it has weights."""

    config: ModelConfig
    entry: Model  # of `MODELS`
    seen: Seen  # what `model.input` gives it
    norm: str | dict[str, Any]  # a name, or a class path
    options: Mapping[str, Any]  # of its norm layers

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of a sample that it needs; `image` always, for predictions refer to its statistics."""
        return (*self.seen.needs, "image")

    @property
    def predict(self) -> Predict:
        """The function of `prediction` that goes with it."""
        made: Predict = builder(self.seen.predict)
        return made

    def smallest(self, pools: int = 0) -> int:
        """Smallest height and width in pixels that it takes; with at most so many pools where they are given."""
        config, most = self.config, self.entry.smallest
        if pools:
            config = replace(config, pools=min(config.pools, pools), sens_pools=min(config.sens_pools, pools))
        return most if isinstance(most, int) else int(builder(most)(config))

    def check_image_size(self, shape: Sequence[int]) -> None:
        """Raise an InputError for images `(height, width)` that it does not take."""
        smallest, side = self.smallest(), int(min(shape))
        if side >= smallest:
            return
        deepest = max(self.config.pools, self.config.sens_pools)
        fitting = [n for n in range(1, deepest) if self.smallest(n) <= side]
        advice = f"use {fitting[-1]} pools or larger images" if fitting else "use larger images"
        what = f"{deepest} pools need" if "pools" in self.entry.keys else f"{self.config.name} needs"
        size = " x ".join(str(int(n)) for n in shape)
        raise InputError(f"images of {size} pixels are too small: {what} {smallest} x {smallest}; {advice}")

    def check_coils(self, numbers: Collection[int]) -> None:
        """Raise an InputError for training data, of so many coils, that it cannot learn from."""
        if self.entry.coils and numbers:
            builder(self.entry.coils)(self.config, numbers)

    def outline(self) -> nn.Module:
        """Build it on torch's meta device: sizes of the weights without values or memory."""
        if isinstance(self.norm, str):
            with torch.device("meta"):
                return self._built(self.norm, self.options)
        with torch.random.fork_rng(devices=[]):  # a foreign layer may compute while it is made, and has few weights
            make_norm(self.norm, self.config.channels, **self.options)
        with torch.device("meta"):
            return self._built("none", {"affine": False, "channels_per_group": None, "n_groups": None})

    def require_memory(self, copies: int = 1, device: str = "cpu") -> None:
        """Raise an InputError where so many copies of its weights do not fit into the memory of `device`."""
        n = sum(p.numel() for p in self.outline().parameters())
        if copies * 4 * n > machine_memory(device):
            raise InputError(
                f"the network has {n:,} parameters (model.channels {self.config.channels}, pools {self.config.pools}): "
                f"{as_gib(copies * 4 * n)}{' with their gradients' if copies > 1 else ''}, and {memory_of(device)}; "
                "use fewer channels or pools"
            )

    def build(self) -> nn.Module:
        """Build it, with random weights.

        Raises:
            InputError: A combination that does not exist, or more weights than this machine has memory for.
        """
        self.require_memory()
        return self._built(self.norm, self.options)

    def _built(self, norm: str | dict[str, Any], options: Mapping[str, Any]) -> nn.Module:
        values = {**{key: getattr(self.config, key) for key in self.entry.keys}, "norm": norm, **options}
        values["residual"] = values.get("residual") is True  # auto: weights of which no one says it
        arguments = {key: values[key] for key in self.entry.keys}
        if self.seen.channels:
            arguments |= {"in_channels": self.seen.channels, "out_channels": self.seen.channels}
        network: nn.Module = builder(self.entry.build)(**arguments)
        return network


def read_design(config: ModelConfig) -> Design:
    """Read the network that a configuration describes.

    Raises:
        InputError: A name that does not exist, an input that the network does not take, a key that it has not.
    """
    entry = named(MODELS, config.name, "model")
    if config.normalize not in ("auto", entry.standardised_by):
        if config.normalize not in ("sample", "network"):
            raise unknown_name("normalize", config.normalize, ("auto", "sample", "network"))
        raise InputError(
            f"model.normalize {config.normalize} does not go with model.name {config.name}, whose images are "
            f"standardised once, by the {entry.standardised_by}; leave it at auto"
        )
    for key in fields(config):
        value = getattr(config, key.name)
        is_set = value != key.default and (key.name != "residual" or value)  # false is what a training makes of auto
        if key.name not in ("name", "input", "normalize", *entry.keys) and is_set:
            raise InputError(
                f"model.{key.name} is {value}, but {config.name} has no such key, only {', '.join(entry.keys)}; "
                "leave it out"
            )
    if len(entry.inputs) == 1 and config.input == ModelConfig.input:
        seen = next(iter(entry.inputs.values()))
    else:
        seen = named(entry.inputs, config.input, "model input", f"That is what {config.name} takes.")
    options = {
        "affine": config.affine,
        "channels_per_group": config.channels_per_group or None,
        "n_groups": config.n_groups or None,
    }
    return Design(config, entry, seen, {"class_path": config.norm} if "." in config.norm else config.norm, options)


def build_model(config: ModelConfig) -> nn.Module:
    """Build the network of a configuration, with random weights.

    Raises:
        InputError: A name or a combination that does not exist, or more weights than this machine has memory for.
    """
    return read_design(config).build()


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
    design = read_design(load(TrainConfig, run.config).model)
    network = TrainedNetwork(design.build(), design.predict)
    state = load_checkpoint(path)
    try:
        network.load_state_dict(state["state_dict"])
    except Exception as error:
        raise InputError(f"{path} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    network.trained_steps = state.get("global_step")
    return network.to(device).eval()
