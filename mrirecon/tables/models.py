"""The networks: which keys of a configuration each takes, what it gets to see, and the smallest image it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mrirecon.tables.transforms import TRANSFORMS

Path = str | Callable[..., Any]  # of a function or class, "package.module:name", or itself


@dataclass(frozen=True)
class Seen:
    """The part of a slice that a network gets under one value of `model.input`, and what then asks and exports it.

    Of networks that see images, `needs` and `channels` are those of a transform; others need what they like.
    """

    needs: tuple[str, ...]  # what it is given of a slice; see mrirecon/data/samples.py
    predict: Path  # (network, collated sample) -> Prediction
    channels: int = 0  # of the network's input and output, for its builder; 0: it does not ask
    deployable: Path = ""  # what makes a network for export of it; empty: it cannot be exported


@dataclass(frozen=True)
class Model:
    """One network."""

    help: str  # one line
    build: Path  # called with the `keys` by name, and with in_channels and out_channels where it sees channels
    keys: tuple[str, ...]  # of `ModelConfig`, besides name, input and normalize
    inputs: Mapping[str, Seen]  # by `model.input`; where there is but one, that key need not be set
    coils: Path = ""  # (what has the `keys`, numbers of coils of training data): raises where it cannot learn from them
    smallest: int | Path = 1  # height and width from which on it takes images, or a function of what has the `keys`
    standardised_by: str = "network"  # who standardises images: the network, or the sample (with its mean and std)

    @property
    def options(self) -> tuple[str, ...]:
        """The `keys`, for help texts."""
        return self.keys


_NORM_KEYS = ("norm", "affine", "channels_per_group", "n_groups", "norm_position")
_UNET_KEYS = ("channels", "pools", *_NORM_KEYS, "residual", "dropout")
_VARNET_KEYS = (
    *("channels", "pools", "cascades", "sens_channels", "sens_pools"),
    *(*_NORM_KEYS, "dropout", "checkpointing"),
)


def _seen(name: str, predict: str, deployable: str) -> Seen:
    """Return the entry of a transform, with names in the modules that ask and export networks which see it."""
    transform = TRANSFORMS[name]
    return Seen(
        transform.needs,
        f"mrirecon.training.prediction:{predict}",
        transform.channels,
        f"mrirecon.training.deployable:{deployable}",
    )


MODELS = {
    "unet": Model(
        help="gets standardised images",
        build="mrirecon.models.unet:UNet",
        keys=_UNET_KEYS,
        inputs={
            "magnitude": _seen("magnitude", "of_magnitude", "MagnitudeUNet"),
            "complex": _seen("complex", "of_complex", "ComplexUNet"),
        },
        smallest="mrirecon.models.unet:smallest_size",
        standardised_by="sample",
    ),
    "normunet": Model(
        help="gets raw images and standardises them itself",
        build="mrirecon.models.normunet:NormUNet",
        keys=_UNET_KEYS,
        inputs={
            "magnitude": _seen("magnitude", "of_raw_magnitude", "MagnitudeNormUNet"),
            "complex": _seen("complex", "of_raw_complex", "ComplexNormUNet"),
        },
        smallest="mrirecon.models.normunet:smallest_size",
    ),
    "unet_dc": Model(
        help="a normunet on the coil-combined image, then data consistency",
        build="mrirecon.models.varnet:UNetDC",
        keys=_UNET_KEYS,
        inputs={
            "kspace": Seen(
                needs=("kspace", "mask", "smaps"),
                predict="mrirecon.training.prediction:of_unet_dc",
                deployable="mrirecon.training.deployable:DeployableUNetDC",
            )
        },
        smallest="mrirecon.models.normunet:smallest_size",
    ),
    "varnet": Model(
        help="end-to-end variational network on k-space",
        build="mrirecon.models.varnet:VarNet",
        keys=_VARNET_KEYS,
        inputs={
            "kspace": Seen(
                needs=("kspace", "mask"),
                predict="mrirecon.training.prediction:of_varnet",
                deployable="mrirecon.training.deployable:DeployableVarNet",
            )
        },
        coils="mrirecon.models.varnet:check_coils",
        smallest="mrirecon.models.varnet:smallest_size",
    ),
}


def own_settings(config: Any) -> dict[str, Any]:
    """Return the keys of a network's `ModelConfig` that it has, with their values, and the input that it sees."""
    entry = MODELS.get(config.name)
    if entry is None:
        return dict(vars(config))
    values = {key: value for key, value in vars(config).items() if key in ("name", "input", "normalize", *entry.keys)}
    if len(entry.inputs) == 1:
        values["input"] = next(iter(entry.inputs))
    return values
