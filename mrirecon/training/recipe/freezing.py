"""Parts of a network that a training leaves as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from mrirecon.errors import InputError, did_you_mean
from mrirecon.training.recipe.batchnorm import batch_norms


@dataclass(frozen=True)
class Frozen:
    """The parts of a network that stay as they are, and the patterns that name them."""

    patterns: tuple[str, ...]
    n_parameters: int  # numbers, not tensors
    n_trainable: int
    norms: tuple[str, ...]  # names of BatchNorm layers that use their statistics, and do not move them

    def facts(self) -> dict[str, object]:
        """Ready for JSON."""
        return {
            "patterns": list(self.patterns),
            "frozen_parameters": self.n_parameters,
            "trainable_parameters": self.n_trainable,
            "frozen_batchnorms": len(self.norms),
        }

    def __str__(self) -> str:
        norms = f", {len(self.norms)} BatchNorms keep their statistics" if self.norms else ""
        counts = f"{self.n_trainable:,} parameters stay trainable, {self.n_parameters:,} not"
        return f"{' '.join(self.patterns)}: {counts}{norms}"


def freeze(network: nn.Module, patterns: Sequence[str]) -> Frozen:
    """Take the parameters whose names match a pattern (`*`, `?`, `[ab]`) out of the training.

    Patterns are those of Python's `fnmatchcase` (https://docs.python.org/3/library/fnmatch.html).

    Names are those of the state dict. A BatchNorm layer whose `running_mean` matches is to normalise with its running
    statistics, and to keep them, while the rest is trained: all that a pattern such as `down*` names stays bit for bit.

    Raises:
        InputError: A pattern that matches nothing, or nothing is left to train.
    """
    parameters = dict(network.named_parameters())
    layers = batch_norms(network)
    norms = {f"{name}.running_mean": name for name, layer in network.named_modules() if layer in layers}
    names = [*parameters, *norms]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(_nothing(pattern, names))
    for name, parameter in parameters.items():
        if _matches(name, patterns):
            parameter.requires_grad_(False)
    frozen = sum(p.numel() for p in parameters.values() if not p.requires_grad)
    trainable = sum(p.numel() for p in parameters.values() if p.requires_grad)
    if not trainable:
        raise InputError(f"--freeze {' '.join(patterns)} leaves none of {frozen:,} parameters to train; freeze fewer")
    kept = tuple(layer for name, layer in norms.items() if _matches(name, patterns))
    return Frozen(tuple(patterns), frozen, trainable, kept)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _nothing(pattern: str, names: Sequence[str]) -> str:
    """Make the refusal; of the many names, those of the blocks."""
    blocks = dict.fromkeys(f"{name.partition('.layers.')[0]}.*" for name in names if ".layers." in name)
    others = [name for name in names if ".layers." not in name]
    hint = did_you_mean(pattern, [*names, *blocks]) or ";"
    return (
        f"--freeze '{pattern}' matches no parameter{hint} there are {', '.join([*blocks, *others])}, such as {names[0]}"
    )
