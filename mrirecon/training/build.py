"""From configuration to network, and from run folder back to a trained network."""

import torch

from mrirecon.config import ModelConfig, TrainConfig
from mrirecon.configfile import load
from mrirecon.errors import InputError
from mrirecon.models import UNet
from mrirecon.runs import RunFolder
from mrirecon.training.module import ReconModule


def build_model(config: ModelConfig) -> UNet:
    """The U-Net of a configuration.

    Raises:
        InputError: A name or a combination that does not exist.
    """
    return UNet(
        channels=config.channels,
        pools=config.pools,
        norm={"class_path": config.norm} if "." in config.norm else config.norm,
        affine=config.affine,
        channels_per_group=config.channels_per_group or None,
        n_groups=config.n_groups or None,
        norm_position=config.norm_position,
        residual=config.residual,
        dropout=config.dropout,
    )


def load_reconstructor(run: RunFolder, checkpoint: str = "best", device: str | torch.device = "cpu") -> ReconModule:
    """The network of a run, ready to reconstruct: called on an `ImageSample` batch it returns images.

    Args:
        run: A run folder.
        checkpoint: `best` (highest validation SSIM) or `last`.
        device: Where it goes.

    Raises:
        InputError: The checkpoint is missing, damaged or does not fit the run's configuration.
    """
    path = run.checkpoint(checkpoint)
    if not path.is_file():
        raise InputError(f"{run.path} has no {path.name}; its training has not validated yet (--checkpoint last?)")
    module = ReconModule(build_model(load(TrainConfig, run.config).model))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
    except Exception as error:
        raise InputError(f"{path} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    return module.to(device).eval()
