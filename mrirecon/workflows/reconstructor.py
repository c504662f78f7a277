"""What the word after `mrirecon evaluate` or `reconstruct` means: a method, a trained run or a file of weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mrirecon.classical import METHODS
from mrirecon.config import ModelConfig, TrainConfig
from mrirecon.configfile import flatten, load
from mrirecon.data.masking import stored_mask
from mrirecon.data.transforms import TRANSFORMS, ImageSample, KSpaceSample, to_image
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, unknown_name
from mrirecon.progress import say
from mrirecon.report.run_files import read_json
from mrirecon.runs import RunFolder, checkpoint_in_run, open_run
from mrirecon.training.batchnorm import batch_norms
from mrirecon.training.build import build_model, load_reconstructor
from mrirecon.training.given_weights import ENDINGS, put_weights, read_weights
from mrirecon.training.prediction import TrainedNetwork
from mrirecon.workflows.bn_stats import set_bn_stats
from mrirecon.workflows.device import autocast
from mrirecon.workflows.weights import weights_sha256

_LIKE = 1.5  # nine of ten random masks of 96 columns have a true acceleration within this factor of the nominal one
_UNTOLD = ("norm", "norm_position", "residual")  # what a state dict does not show


class NetworkUse(Protocol):
    """The keys of a configuration that say how a network is used."""

    @property
    def model(self) -> ModelConfig:
        """The network of a file of weights."""

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
    checkpoint: str = ""  # which one, or `given` for a file of weights; empty for methods
    check_image_size: Callable[[Sequence[int]], None] = lambda _shape: None  # raises for images that are too small
    transform: Callable[[KSpaceSample], ImageSample] = to_image  # what it gets to see of a slice
    weights_sha256: str = ""  # of the checkpoint; empty for methods
    given: dict[str, Any] = field(default_factory=dict)  # where the weights of a file come from
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
    """The method called `name`, else the run or the weights at `name`, with BatchNorm statistics as configured.

    Args:
        name: A name of `METHODS`, a run folder, a checkpoint in one (in place of `checkpoint`), or a file of weights.
        config: How its network is used.
        device: Where it computes.
        data: Data folder to recalibrate BatchNorm with, where that of the training is gone.

    Raises:
        InputError: None of them, or weights that cannot be loaded.
    """
    own = checkpoint_in_run(name)
    if Path(name).is_file() and own is None and name not in METHODS:
        return _of_file(name, config, device)
    if differing := _differing(config.model, ModelConfig()):
        raise InputError(f"model.{differing[0]} describes a file of weights; {name} is none: leave it out")
    if name in METHODS:
        method = METHODS[name]()
        place = RunFolder(Path("runs") / name)
        return Reconstructor(name, method, place, device, config.precision, options=_not_default(method))
    if not Path(name).exists():
        hint = f"Or give a run folder or a file of weights ({' '.join(ENDINGS)}); there is none at {Path(name)}."
        raise unknown_name("method", name, METHODS, hint)
    run, checkpoint = own or (open_run(name), config.checkpoint)
    trained = load(TrainConfig, run.config)
    module = load_reconstructor(run, checkpoint, device)
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
        checkpoint,
        network.check_image_size,
        TRANSFORMS[trained.model.input],
        digest,
        options=_not_default(trained.model),
    )


def _of_file(path: str, config: NetworkUse, device: torch.device) -> Reconstructor:
    """The network of a file of weights; its evaluations go to runs/<name of the file>."""
    given = read_weights(path)
    model = config.model if given.model is None else given.model
    if wrong := [key for key in _differing(config.model, ModelConfig()) if key in _differing(config.model, model)]:
        asked, known = (flatten(of)[wrong[0]] for of in (config.model, model))
        raise InputError(
            f"model.{wrong[0]} is {asked}, but {path} says that it is of a network with {known}; leave it out"
        )
    network: Any = build_model(model)
    match = put_weights(network, model, given)
    say(f"weights     {match}")
    if given.model is None:
        said = ", ".join(f"{key} {getattr(model, key)}" for key in _UNTOLD)
        say(f"network     {model.name} with {said}: as the call says, for the file does not tell")
    if config.bn_stats == "recalibrated":
        raise InputError(f"--bn-stats recalibrated needs the run that trained {path}; use running (or batch)")
    module = TrainedNetwork(network).to(device)
    set_bn_stats(module, config.bn_stats, TrainConfig(model=model))
    module.eval()
    run = RunFolder(Path("runs") / Path(path).stem)
    return Reconstructor(
        run.name,
        module,
        run,
        device,
        config.precision,
        "given",
        network.check_image_size,
        TRANSFORMS[model.input],
        weights_sha256(network),
        match.facts(),
        options=_not_default(model),
    )


def _differing(one: ModelConfig, other: ModelConfig) -> list[str]:
    theirs = flatten(other)
    return [key for key, value in flatten(one).items() if theirs[key] != value]


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


def other_sampling(volumes: Sequence[Volume], reconstructor: Reconstructor) -> str:
    """Says which files are not undersampled like the data that a network was trained on.

    Returns:
        A note; empty where all are, or where it is not known what the network was trained on.
    """
    masks = read_json(reconstructor.run.provenance).get("masks") or {}
    trained = [*masks.get("accelerations", ()), *(masks.get("own") or {}).get("acceleration_true", ())]
    if not trained:
        return ""
    low, high = min(trained), max(trained)
    true = {volume.name: stored_mask(volume).acceleration_true for volume in volumes}
    others = [v for v in volumes if v.sampling.is_2d or not low / _LIKE <= true[v.name] <= high * _LIKE]
    if not others:
        return ""
    first = others[0]
    how = f"{'rows and columns' if first.sampling.is_2d else 'columns'}, true acceleration {true[first.name]:.2f}"
    seen = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
    return (
        f"{len(others)} of {len(volumes)} files are sampled otherwise than the training data of {reconstructor.name} "
        f"(columns, acceleration {seen}); {first.name}: {'full k-space' if true[first.name] == 1 else how}"
    )
