"""What the word after `mrirecon evaluate` or `reconstruct` means: a method by name, or a trained run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mrirecon.classical import METHODS
from mrirecon.config import TrainConfig
from mrirecon.configfile import load
from mrirecon.data.transforms import TRANSFORMS, ImageSample, KSpaceSample, to_image
from mrirecon.errors import InputError, unknown_name
from mrirecon.runs import RunFolder, open_run
from mrirecon.training.batchnorm import batch_norms
from mrirecon.training.build import load_reconstructor
from mrirecon.workflows.bn_stats import set_bn_stats
from mrirecon.workflows.device import autocast
from mrirecon.workflows.weights import weights_sha256


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
    check_image_size: Callable[[Sequence[int]], None] = lambda _shape: None  # raises for images that are too small
    transform: Callable[[KSpaceSample], ImageSample] = to_image  # what it gets to see of a slice
    weights_sha256: str = ""  # of the checkpoint; empty for methods
    options: Mapping[str, Any] = field(default_factory=dict)  # what its images depend on besides, where not default

    def __call__(self, sample: ImageSample) -> Tensor:
        """The images of a batch; only the reconstruction itself runs in the chosen precision.

        Raises:
            InputError: Images that are not finite: k-space, weights or precision are not fit for it.
        """
        with autocast(self.device, self.precision):
            images = self.reconstruct(sample).float()
        is_bad = ~torch.isfinite(images).flatten(1).all(1)
        if is_bad.any():
            first = int(is_bad.nonzero()[0])
            raise InputError(
                f"{self.name} gives NaN or infinity in slice {torch.as_tensor(sample.slice_idx).tolist()[first]} of "
                f"{sample.volume[first]}; use --precision fp32, another checkpoint, or repair the file"
            )
        return images


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
        method = METHODS[name]()
        place = RunFolder(Path("runs") / name)
        return Reconstructor(name, method, place, device, config.precision, options=_not_default(method))
    if not Path(name).exists():
        raise unknown_name("method", name, METHODS, f"Or give a run folder; there is none at {Path(name)}.")
    run = open_run(name)
    trained = load(TrainConfig, run.config)
    module = load_reconstructor(run, config.checkpoint, device)
    network: Any = module.model
    digest = weights_sha256(network)
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
        network.check_image_size,
        TRANSFORMS[trained.model.input],
        digest,
        _not_default(trained.model),
    )


def _not_default(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that are set to something else than their default; of anything else, none."""
    if not is_dataclass(settings):
        return {}
    found = {}
    for key in fields(settings):
        value = getattr(settings, key.name)
        default = key.default if key.default_factory is MISSING else key.default_factory()
        if value != default:
            found[key.name] = value
    return found


def _require_training_data(trained: TrainConfig, data: str) -> None:
    if not data and not Path(trained.data.path).is_dir():
        raise InputError(
            f"--bn-stats recalibrated needs the training data, which are not at {trained.data.path} any more; "
            "put them back, or use --bn-stats running"
        )
