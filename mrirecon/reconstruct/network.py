"""A trained network as a reconstructor: its weights, and which statistics BatchNorm normalises with."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mrirecon.config import ModelConfig, TrainConfig
from mrirecon.configfile import flatten, load
from mrirecon.data.samples import Sample
from mrirecon.errors import InputError, unknown_name
from mrirecon.progress import progress, say, warn
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.runs import RunFolder
from mrirecon.training.build import load_reconstructor, read_design
from mrirecon.training.checkpoints.weights_files import put_weights, read_weights
from mrirecon.training.prediction import TrainedNetwork
from mrirecon.training.recipe.batchnorm import batch_norms, recalibrate

BN_STATS = ("running", "batch", "recalibrated")
N_BATCHES = 200  # enough for a mean over batches; a smaller training set gives fewer
_UNTOLD = ("norm", "norm_position", "residual")  # what a state dict does not show


class NetworkUse(Protocol):
    """The keys of a configuration that say how a method or a network is used."""

    @property
    def model(self) -> ModelConfig:
        """The network of a file of weights."""

    @property
    def checkpoint(self) -> str:
        """Best or last."""

    @property
    def bn_stats(self) -> str:
        """The statistics that BatchNorm normalises with."""

    @property
    def precision(self) -> str:
        """The precision that it computes in."""

    @property
    def method(self) -> Mapping[str, Any]:
        """Options of a method."""


def of_run(run: RunFolder, checkpoint: str, config: NetworkUse, device: torch.device, data: str) -> Reconstructor:
    """Make a reconstructor of the network of a run.

    Args:
        run: Its folder.
        checkpoint: Which one.
        config: How it is used.
        device: Where it computes.
        data: Data folder to recalibrate BatchNorm with, where that of the training is gone.

    Raises:
        InputError: Weights that cannot be loaded, or nothing to recalibrate with.
    """
    trained = load(TrainConfig, run.config)
    design = read_design(trained.model)
    module = load_reconstructor(run, checkpoint, device)
    digest = weights_sha256(module.model)
    if config.bn_stats == "recalibrated" and batch_norms(module):
        path = trained.data.path
        if not data and not Path(path).is_dir():
            raise InputError(
                f"--bn-stats recalibrated needs the training data, which are not at {path} any more; "
                "put them back, or use --bn-stats running"
            )
    set_bn_stats(module, config.bn_stats, trained, data)
    module.eval()
    return Reconstructor(
        run.path.resolve().name,
        module,
        run,
        device,
        config.precision,
        checkpoint,
        design.check_image_size,
        design.needs,
        digest,
        config.bn_stats,
        options=_set_keys(trained.model),
    )


def of_file(path: str, config: NetworkUse, device: torch.device) -> Reconstructor:
    """Make a reconstructor of a file of weights; its evaluations go to runs/<name of the file>."""
    given = read_weights(path)
    model = config.model.with_residual(False) if given.model is None else given.model
    asked_for = differing_keys(config.model, ModelConfig())
    if wrong := [key for key in asked_for if key in differing_keys(config.model, model)]:
        asked, known = (flatten(of)[wrong[0]] for of in (config.model, model))
        raise InputError(
            f"model.{wrong[0]} is {asked}, but {path} says that it is of a network with {known}; leave it out"
        )
    design = read_design(model)
    network = design.build()
    match = put_weights(network, model, given)
    say(f"weights     {match}")
    if given.model is None:
        said = ", ".join(f"{key} {getattr(model, key)}" for key in _UNTOLD)
        say(f"network     {model.name} with {said}: as the call says, for the file does not tell")
    if config.bn_stats == "recalibrated":
        raise InputError(f"--bn-stats recalibrated needs the run that trained {path}; use running (or batch)")
    module = TrainedNetwork(network, design.predict).to(device)
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
        design.check_image_size,
        design.needs,
        weights_sha256(network),
        config.bn_stats,
        match.facts(),
        options=_set_keys(model),
    )


def differing_keys(one: ModelConfig, other: ModelConfig) -> list[str]:
    """Return the keys in which two networks differ."""
    theirs = flatten(other)
    return [key for key, value in flatten(one).items() if theirs[key] != value]


def _set_keys(model: ModelConfig) -> dict[str, Any]:
    """Return the keys of a network that are not as in a configuration that sets none, with their values."""
    unset = ModelConfig().with_residual(False)  # what a network computes that says nothing of it
    return {key.name: value for key in fields(model) if (value := getattr(model, key.name)) != getattr(unset, key.name)}


def weights_sha256(model: nn.Module) -> str:
    """Compute the SHA-256 over the state dict by name: of each entry name, type and shape as a line, then its bytes.

    The same for a checkpoint and for the `weights.safetensors` made of it; 64 hex digits.
    """
    digest = sha256()
    for name, value in sorted(model.state_dict().items()):
        stored = value.detach().cpu().contiguous()
        digest.update(f"{name} {str(stored.dtype).removeprefix('torch.')} {tuple(stored.shape)}\n".encode())
        digest.update(stored.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def set_bn_stats(module: nn.Module, kind: str, trained: TrainConfig, data: str = "") -> None:
    """Set the BatchNorm layers of a trained network to `running`, `batch` or `recalibrated` statistics.

    - running: the moving average that training left.
    - batch: of the batch being reconstructed; results then depend on the batch size.
    - recalibrated: the mean over up to 200 training batches with training masks, the first epoch's, of the
      size that was normalised together in training; dropout off. Deterministic. "Precise BatchNorm" of Wu & Johnson
      (2021); see `recalibrate`.

    Networks without BatchNorm stay as they are.

    Args:
        module: Called with a collated `Sample`.
        kind: One of `BN_STATS`.
        trained: The configuration it was trained with: the source of the training batches.
        data: Data folder to use where that of the training is gone.

    Raises:
        InputError: Unknown kind, or no training data to recalibrate with.
    """
    if kind not in BN_STATS:
        raise unknown_name("BatchNorm statistics", kind, BN_STATS)
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if kind == "running":
        return
    if not layers:
        warn(f"note: --bn-stats {kind} has no effect, the network has no BatchNorm")
    elif kind == "batch":
        warn("note: --bn-stats batch: the results depend on the batch size")
        for layer in layers:
            layer.track_running_stats = False  # without buffers, torch normalises by the batch in eval mode too
            layer.running_mean = layer.running_var = None
    else:
        recalibrate(module, layers, _training_batches(trained, data))


def _training_batches(trained: TrainConfig, data: str) -> Iterable[Sample]:
    from mrirecon.data.loading.datamodule import ReconDataModule  # which needs Lightning

    config = trained.data
    if data and not Path(config.path).is_dir():
        config = replace(config, path=data)
    together = trained.batch_size * (trained.devices * trained.num_nodes if trained.sync_batchnorm else 1)
    needs = read_design(trained.model).needs
    module = ReconDataModule(config, trained.batch_size, seed=trained.seed, normalised_together=together, needs=needs)
    return progress(module.recalibration_batches(N_BATCHES), "recalibrating BatchNorm", unit="batches")
