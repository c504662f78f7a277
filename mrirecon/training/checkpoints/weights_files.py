"""Files of weights, of this package and of others: safetensors, fastMRI's Lightning checkpoints, state dicts.

Nothing in them runs when they are read.
"""

import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

import mrirecon
from mrirecon.config import ModelConfig, TrainConfig
from mrirecon.configfile import build, load
from mrirecon.errors import InputError
from mrirecon.files import replacing
from mrirecon.runs import RunFolder, checkpoint_in_run, open_run
from mrirecon.tables.models import MODELS
from mrirecon.tables.norms import NORMS, norm_options
from mrirecon.training.build import build_model
from mrirecon.training.checkpoints.read import (
    digest_of,
    listed,
    opened,
    require_archive,
    require_sound,
    require_weights,
    why_not,
)
from mrirecon.training.deployable import Deployable, deployable

VERSION = "1"  # of the header's keys


def save_portable(model: nn.Module, config: ModelConfig, path: str | os.PathLike[str]) -> None:
    """Write the weights of `model`, under the names of its state dict, with `config` as JSON in the header.

    The file is of the safetensors format (https://github.com/huggingface/safetensors).
    """
    from safetensors.torch import save

    header = {
        "format": "pt",  # what other readers of safetensors look for
        "mrirecon_format": VERSION,
        "mrirecon_version": mrirecon.__version__,
        "model": json.dumps(asdict(config.with_residual(False))),  # as `build_model` makes it
    }
    tensors = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    data = save(tensors, header)  # save_file makes it unreadable for others
    end = 8 + int.from_bytes(data[:8], "little")
    content = json.loads(data[8:end])
    content["__metadata__"] = header  # which safetensors writes in another order each time
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary:
        temporary.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def load_portable(path: str | os.PathLike[str]) -> Deployable:
    """Load the network of a file of `save_portable`, ready for images.

    Format: safetensors (https://github.com/huggingface/safetensors).

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
    """Read the network's configuration from a header of `save_portable`.

    Such a header is the `__metadata__`, texts by name, of safetensors (https://github.com/huggingface/safetensors).

    Raises:
        InputError: There is no such header, or it is of another version.
    """
    version = header.get("mrirecon_format")
    if version != VERSION:
        raise InputError(f"{path} has format {version}, this version of mrirecon reads {VERSION}; export the run again")
    return build(ModelConfig, json.loads(header["model"]))


Tensors = dict[str, Tensor]
ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth")
_INSIDE = ("state_dict", "model_state_dict", "model")  # where a checkpoint may have its state dict
_NO_FUNCTION = (
    "dropout",
    "normalize",
    "checkpointing",
)  # keys of a network that do not decide what trained weights compute
# Lightning before 1.5 names its callbacks by their classes; the names will do.
_CALLBACKS = re.compile(r"(pytorch_lightning|lightning\.pytorch)\.callbacks\.[\w.]+")
_FIRST = re.compile(r"(.*?)down_sample_layers\.0\.layers\.\d+\.weight")
_CASCADE = re.compile(r"(.*?)cascades\.(\d+)\.model\.unet\.")  # of fastMRI's VarNet, and ours
_SENSITIVITIES = "sens_net.norm_unet.unet."
_SAVE = "save its weights alone where you trust it: torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True)
class GivenWeights:
    """The tensors of a file, and what is known of the network they belong to."""

    source: str  # as it was given
    file: Path
    kind: str
    sha256: str  # of the file
    tensors: Tensors = field(repr=False)
    model: ModelConfig | None = None  # of a run or a file that says so


@dataclass(frozen=True)
class Match:
    """The match of a file's entries with those of a network."""

    given: GivenWeights
    prefix: str  # of the names in the file
    n: int  # entries
    n_others: int  # entries of the file that belong to no network

    def facts(self) -> dict[str, Any]:
        """Ready for JSON."""
        given = self.given
        return {
            "source": given.source,
            "file": str(given.file.absolute()),
            "kind": given.kind,
            "sha256": given.sha256,
            "entries": self.n,
            "prefix": self.prefix,
            "others": self.n_others,
        }

    def __str__(self) -> str:
        prefix = f", prefix '{self.prefix}' removed" if self.prefix else ""
        others = f", {self.n_others} other{'s' * (self.n_others > 1)} left out" if self.n_others else ""
        return (
            f"{self.given.file} ({self.given.kind}): all {self.n} entries match{prefix}{others}; "
            f"SHA-256 {self.given.sha256[:16]}"
        )


def read_weights(source: str) -> GivenWeights:
    """Read the weights that `source` names.

    Args:
        source: A run folder (of its best checkpoint, which are the averages where the run has them), a checkpoint in
            one, or a file: safetensors, a Lightning checkpoint, or a state dict as torch saves it.

    Raises:
        InputError: Nothing there, or no such weights.
    """
    path = Path(source)
    if path.is_dir():
        run: RunFolder | None = open_run(path)
        file = _of_run(path)
    elif path.is_file():
        run, file = _owner(path), path
    else:
        raise InputError(
            f"no weights at {path}; give a run folder or a file ({' '.join(ENDINGS)}), or, where they are gone, begin "
            "with random ones (--weights '')"
        )
    tensors, kind, digest, model = _read(file)
    if run is not None:
        model = load(TrainConfig, run.config).model
        kind = f"{'best of a run' if path.is_dir() else kind}"
    return GivenWeights(source, file, kind, digest, tensors, model)


def put_weights(network: nn.Module, config: ModelConfig, given: GivenWeights) -> Match:
    """Load weights into the network of `config`.

    Raises:
        InputError: They are those of another one.
    """
    if given.model is not None:
        _require_same(config, given.model, given.file)
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    prefix = _prefix(given, wanted)
    own = {name.removeprefix(prefix): t for name, t in given.tensors.items() if name.startswith(prefix)}
    parts = {name.partition(".")[0] for name in wanted}
    foreign = [name for name in own if name not in wanted and name.partition(".")[0] in parts]
    missing = [name for name in wanted if name not in own]
    unequal = [name for name in wanted if name in own and own[name].shape != wanted[name]]
    if foreign or missing or unequal:
        raise _other_network(config, given, wanted, own, (unequal, missing, foreign))
    floats = [name for name, value in network.state_dict().items() if value.is_floating_point()]
    if whole := [name for name in floats if not own[name].is_floating_point()]:
        raise InputError(f"{given.file}: its {whole[0]} is {own[whole[0]].dtype}, not of floats; save the weights anew")
    network.load_state_dict({name: own[name] for name in wanted})
    return Match(given, prefix, len(wanted), len(given.tensors) - len(wanted))


def _of_run(path: Path) -> Path:
    run = RunFolder(path)
    best, last = run.checkpoint("best"), run.checkpoint("last")
    for file in (best, run.weights):  # a run that keeps `last` alone, or tables alone, still has its network
        if file.is_file():
            return file
    advice = f"give {last}" if last.is_file() else "it has not trained far enough"
    raise InputError(f"{path} has neither {best.name} nor {run.weights.name}; {advice}")


def _owner(file: Path) -> RunFolder | None:
    """Find the run that a file is the network of."""
    if found := checkpoint_in_run(file):
        return found[0]
    run = RunFolder(file.absolute().parent)
    return run if file.name == run.weights.name and run.config.is_file() else None


def _read(file: Path) -> tuple[Tensors, str, str, ModelConfig | None]:
    """Read tensors by name, kind, SHA-256, and the network where the file says it."""
    try:
        with opened(file) as handle:
            digest = digest_of(handle)
            size = handle.tell()
            if not size:
                raise InputError(f"{file} is empty (0 bytes); copy it again")
            handle.seek(0)
            head = handle.read(9)
            handle.seek(0)
            if head[8:] == b"{" and int.from_bytes(head[:8], "little") < size:
                from safetensors.torch import load_file, safe_open

                with safe_open(str(file), "pt") as opened_file:
                    header = opened_file.metadata() or {}
                tensors = load_file(str(file))
                model = stored_model(header, file) if "mrirecon_format" in header else None
                kind = "safetensors"
            else:
                tensors, kind = _state_dict(_unpacked(handle, file))
                model = None
        if not tensors:
            raise ValueError("it holds no tensors by name, as a state dict does")
        require_weights("it", tensors)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{file} {why_not(error, 'no file of weights', _SAVE)}") from None
    return tensors, kind, digest, model


def _unpacked(handle: BinaryIO, file: Path) -> dict[str, Any]:
    """Unpack a file of torch, in either of its formats; plain values and tensors alone."""
    names: list[str] = []
    is_archive = handle.read(4) == b"PK\x03\x04"
    handle.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensors that are refused below
        if is_archive:
            require_archive(handle, has_hash=listed(file) is not None)
            found = torch.serialization.get_unsafe_globals_in_checkpoint(handle)
            names = [name for name in found if _CALLBACKS.fullmatch(name)]
            handle.seek(0)
        instead: Any = [(name, name) for name in names]  # a text in place of the class
        with torch.serialization.safe_globals(instead):
            state = torch.load(handle, map_location="cpu", weights_only=True)
    require_sound(state)
    return dict(state)


def _state_dict(state: Mapping[Any, Any]) -> tuple[Tensors, str]:
    inside = next((key for key in _INSIDE if isinstance(state.get(key), dict) and _tensors(state[key])), None)
    if inside is None:
        return _tensors(state), "state dict"
    kind = "Lightning checkpoint" if "pytorch-lightning_version" in state else f"checkpoint, '{inside}'"
    return _tensors(state[inside]), kind


def _tensors(state: Mapping[Any, Any]) -> Tensors:
    return {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _prefix(given: GivenWeights, wanted: Iterable[str]) -> str:
    """Find what stands before the network's names in the file: `unet.` in fastMRI's checkpoints, `model.` in ours."""
    names, wanted = given.tensors.keys(), list(wanted)
    before = {name.removesuffix(own) for name in names for own in wanted if name.endswith(own)}
    matches = {p: sum(p + own in names for own in wanted) for p in sorted(before) if p == "" or p.endswith(".")}
    best = [prefix for prefix, n in matches.items() if n == max(matches.values())]
    if len(best) > 1:
        raise InputError(
            f"{given.file} holds {len(best)} networks with such entries, under {', '.join(map(repr, best[:4]))}; save "
            "the one that you mean as a state dict of its own"
        )
    return best[0] if best else ""


def _require_same(asked: ModelConfig, known: ModelConfig, file: Path) -> None:
    """Raise an InputError where the same entries would compute something else."""
    ours = asdict(asked)
    foreign = {key for entry in NORMS.values() for key in entry.options} - set(norm_options(known.norm))
    left_out = (*_NO_FUNCTION, *foreign)
    differing = {key: v for key, v in asdict(known).items() if key not in left_out and ours[key] != v}
    if differing:
        said = ", ".join(f"{key} {value} (not {ours[key]})" for key, value in differing.items())
        raise InputError(f"{file} belongs to a network of {said}; add {_flags(differing)}")


def _other_network(
    config: ModelConfig,
    given: GivenWeights,
    wanted: Mapping[str, torch.Size],
    own: Tensors,
    faults: tuple[list[str], list[str], list[str]],
) -> InputError:
    """Make the refusal: the first entry that does not fit, what the file has, and the flags that would fit."""
    unequal, missing, foreign = faults
    if unequal:
        name = unequal[0]
        fault = f"its {name} is {tuple(own[name].shape)}, that of this network {tuple(wanted[name])}"
    elif missing:
        fault = f"it lacks {len(missing)} of {len(wanted)} entries, such as {missing[0]}"
    else:
        fault = f"this network has no {foreign[0]} ({len(foreign)} such entries)"
    told = _told(given.tensors, config)
    if not told:
        names = ", ".join(list(given.tensors)[:3])
        kind = config.name if "cascades" in MODELS[config.name].keys else "U-Net"
        return InputError(f"{given.file} holds no {kind}: {fault}; its entries are {names}, ...")
    differing = {key: value for key, value in told.items() if getattr(config, key) != value}
    advice = f"add {_flags(differing)}" if differing else "no --model.* flag is known to fit"
    if config.norm == "batch" and "norm" not in told:
        others = ", ".join(name for name in NORMS if name not in (config.norm, "instance"))
        advice = f"it is no network with BatchNorm: add --norm instance (or {others})"
    has = ", ".join(f"{key} {value}" for key, value in told.items())
    return InputError(f"{given.file} holds another network: {fault}. It has {has}; {advice}")


def _told(tensors: Tensors, config: ModelConfig) -> dict[str, Any]:
    """Tell the keys of a network from names and shapes of its entries; empty where there is none of its kind."""
    cascade = next((m for name in tensors if (m := _CASCADE.match(name))), None)
    if "cascades" not in MODELS[config.name].keys:
        return _told_of_unet(tensors, config)
    if cascade is None:
        return {}
    before = cascade[1]
    n = 1 + max(int(m[2]) for name in tensors if (m := _CASCADE.match(name)))
    of_cascade, of_maps = (
        _told_of_unet({name: t for name, t in tensors.items() if name.startswith(before + part)}, config)
        for part in ("cascades.0.model.unet.", _SENSITIVITIES)
    )
    told = {**of_cascade, "cascades": n, "sens_channels": of_maps.get("channels", 0)}
    if of_maps and of_maps["pools"] != of_cascade["pools"]:
        told["sens_pools"] = of_maps["pools"]
    return told


def _told_of_unet(tensors: Tensors, config: ModelConfig) -> dict[str, Any]:
    found = next((m for name, t in tensors.items() if t.ndim == 4 and (m := _FIRST.fullmatch(name))), None)
    if found is None:
        return {}
    own = {name.removeprefix(found[1]): t for name, t in tensors.items() if name.startswith(found[1])}
    levels = {int(name.split(".")[1]) for name in own if re.match(r"down_sample_layers\.\d+\.", name)}
    width, n_in = tensors[found[0]].shape[:2]
    told: dict[str, Any] = {"channels": width, "pools": max(levels) + 1}
    of_channels = {one.channels: name for name, one in MODELS[config.name].inputs.items()}
    told |= {"input": of_channels[n_in]} if n_in in of_channels else {}
    if any(name.endswith(".running_mean") for name in own):
        told["norm"] = "batch"
    scales = (t for name, t in own.items() if re.fullmatch(r"down_sample_layers\.0\.layers\.\d+\.weight", name))
    told["affine"] = any(t.ndim == 1 for t in scales)
    return told


def _flags(keys: Mapping[str, Any]) -> str:
    def flag(key: str, value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)  # false, not False
        return f"{'--model' if key == 'name' else '--' + key.replace('_', '-')} {text}"

    return " ".join(flag(key, value) for key, value in keys.items())
