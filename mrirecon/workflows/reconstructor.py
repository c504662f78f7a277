"""What the word after `mrirecon evaluate` or `reconstruct` means: a method by name, or a trained run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mrirecon.classical import METHODS
from mrirecon.config import TrainConfig
from mrirecon.configfile import load
from mrirecon.data.transforms import TRANSFORMS, ImageSample, KSpaceSample, to_image
from mrirecon.errors import InputError, unknown_name
from mrirecon.models.unet import check_image_size
from mrirecon.runs import RunFolder, open_run
from mrirecon.training.batchnorm import batch_norms
from mrirecon.training.build import load_reconstructor
from mrirecon.workflows.bn_stats import set_bn_stats
from mrirecon.workflows.device import autocast
from mrirecon.workflows.weights import weights_sha256

_PADDED_TO = {"normunet": 16}  # networks that pad their images, to a multiple of so many pixels


class NetworkUse(Protocol):
    """The keys of a configuration that say how a network is used."""

    @property
    def checkpoint(self) -> str:
        """Best or last."""

    @property
    def bn_stats(self) -> str:
        """Which statistics BatchNorm normalises with."""

    @property
    def precision(self) -> str:
        """What it computes in."""


@dataclass(frozen=True)
class Reconstructor:
    """Maps a batch of samples to images `(batch, height, width)` in the units of the target."""

    name: str
    reconstruct: Callable[[ImageSample], Tensor]
    run: RunFolder  # where its evaluations go
    device: torch.device
    precision: str = "fp32"
    checkpoint: str = ""  # which one; empty for methods
    pools: int = 0  # of its U-Net, which limits the image size; 0: any size
    padded_to: int = 1  # its U-Net gets images padded to a multiple of this
    transform: Callable[[KSpaceSample], ImageSample] = to_image  # what it gets to see of a slice
    weights_sha256: str = ""  # of the checkpoint; empty for methods

    def __call__(self, sample: ImageSample) -> Tensor:
        """The images of a batch; only the reconstruction itself runs in the chosen precision."""
        with autocast(self.device, self.precision):
            return self.reconstruct(sample).float()

    def check_image_size(self, shape: Sequence[int]) -> None:
        """Raise an InputError if images `(height, width)` are too small for the network."""
        if self.pools and min(-(-n // self.padded_to) * self.padded_to for n in shape) < 2 * 2**self.pools:
            check_image_size(shape, self.pools)


def find_reconstructor(name: str, config: NetworkUse, device: torch.device, data: str = "") -> Reconstructor:
    """The method called `name`, else the run in the folder `name` with BatchNorm statistics as configured.

    Args:
        name: A name of `METHODS`, or a run folder.
        config: How its network is used.
        device: Where it computes.
        data: Data folder to recalibrate BatchNorm with, where that of the training is gone.

    Raises:
        InputError: Neither, or a run that cannot be loaded.
    """
    if name in METHODS:
        return Reconstructor(name, METHODS[name](), RunFolder(Path("runs") / name), device, config.precision)
    if not Path(name).exists():
        raise unknown_name("method", name, METHODS, f"Or give a run folder; there is none at {Path(name)}.")
    run = open_run(name)
    trained = load(TrainConfig, run.config)
    module = load_reconstructor(run, config.checkpoint, device)
    digest = weights_sha256(module.model)
    if config.bn_stats == "recalibrated" and batch_norms(module):
        _require_training_data(trained, data)
    set_bn_stats(module, config.bn_stats, trained, data)
    module.eval()
    return Reconstructor(
        run.path.resolve().name,
        module,
        run,
        device,
        config.precision,
        config.checkpoint,
        trained.model.pools,
        _PADDED_TO.get(trained.model.name, 1),
        TRANSFORMS[trained.model.input],
        digest,
    )


def _require_training_data(trained: TrainConfig, data: str) -> None:
    if not data and not Path(trained.data.path).is_dir():
        raise InputError(
            f"--bn-stats recalibrated needs the training data, which are not at {trained.data.path} any more; "
            "put them back, or use --bn-stats running"
        )
