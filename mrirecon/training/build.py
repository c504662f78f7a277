"""From configuration to network, and from run folder back to a trained network."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mrirecon.config import ModelConfig, TrainConfig
from mrirecon.configfile import load
from mrirecon.errors import InputError, unknown_name
from mrirecon.models.norms import make_norm
from mrirecon.models.normunet import NormUNet
from mrirecon.models.unet import UNet
from mrirecon.runs import RunFolder
from mrirecon.tables.entry import named
from mrirecon.tables.transforms import TRANSFORMS
from mrirecon.training.checkpoint_hashes import load_checkpoint
from mrirecon.training.footprint import as_gib, machine_memory, memory_of
from mrirecon.training.prediction import TrainedNetwork

# name -> class, and who standardises its images
MODELS: dict[str, tuple[type[UNet | NormUNet], str]] = {"unet": (UNet, "sample"), "normunet": (NormUNet, "network")}


def build_model(config: ModelConfig) -> UNet | NormUNet:
    """The network of a configuration.

    Raises:
        InputError: A name or a combination that does not exist, or more weights than this machine has memory for.
    """
    require_weights(outline(config), config)
    return _build(config)


def outline(config: ModelConfig) -> UNet | NormUNet:
    """The network of a configuration without the values of its weights, which takes no memory: it knows its sizes.

    Raises:
        InputError: A name or a combination that does not exist.
    """
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


def _norm(config: ModelConfig) -> dict[str, Any] | str:
    return {"class_path": config.norm} if "." in config.norm else config.norm


def _norm_options(config: ModelConfig) -> dict[str, Any]:
    return {
        "affine": config.affine,
        "channels_per_group": config.channels_per_group or None,
        "n_groups": config.n_groups or None,
    }


def _build(config: ModelConfig) -> UNet | NormUNet:
    if config.name not in MODELS:
        raise unknown_name("model", config.name, MODELS)
    channels = named(TRANSFORMS, config.input, "model input").channels
    build, normalizer = MODELS[config.name]
    if config.normalize not in ("auto", normalizer):
        if config.normalize not in ("sample", "network"):
            raise unknown_name("normalize", config.normalize, ("auto", "sample", "network"))
        raise InputError(
            f"model.normalize {config.normalize} does not go with model.name {config.name}, whose images are "
            f"standardised once, by the {normalizer}; leave it at auto"
        )
    return build(
        in_channels=channels,
        out_channels=channels,
        channels=config.channels,
        pools=config.pools,
        norm=_norm(config),
        **_norm_options(config),
        norm_position=config.norm_position,
        residual=config.residual,
        dropout=config.dropout,
    )


def load_reconstructor(run: RunFolder, checkpoint: str = "best", device: str | torch.device = "cpu") -> TrainedNetwork:
    """The network of a run, ready to reconstruct: called on an `ImageSample` batch it returns images.

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
    network = TrainedNetwork(build_model(load(TrainConfig, run.config).model))
    state = load_checkpoint(path)
    try:
        network.load_state_dict(state["state_dict"])
    except Exception as error:
        raise InputError(f"{path} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    network.trained_steps = state.get("global_step")
    return network.to(device).eval()
