"""What the word after `mrirecon evaluate` means: a method by name, or a trained run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mrirecon.classical import METHODS
from mrirecon.config import EvaluateConfig, TrainConfig
from mrirecon.configfile import load
from mrirecon.data.transforms import ImageSample
from mrirecon.errors import unknown_name
from mrirecon.runs import RunFolder, open_run
from mrirecon.training.build import load_reconstructor
from mrirecon.workflows.bn_stats import set_bn_stats
from mrirecon.workflows.device import autocast


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

    def __call__(self, sample: ImageSample) -> Tensor:
        """The images of a batch; only the reconstruction itself runs in the chosen precision."""
        with autocast(self.device, self.precision):
            return self.reconstruct(sample).float()


def find_reconstructor(name: str, config: EvaluateConfig, device: torch.device) -> Reconstructor:
    """The method called `name`, else the run in the folder `name` with BatchNorm statistics as configured.

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
    set_bn_stats(module, config.bn_stats, trained, config.data.path)
    module.eval()
    label = run.path.resolve().name
    return Reconstructor(label, module, run, device, config.precision, config.checkpoint, trained.model.pools)
