"""Normalization layers by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mrirecon.tables.entry import builder


@dataclass(frozen=True)
class NormEntry:
    """A normalization layer.

    `build` makes one: (n_channels, affine, eps, **options) -> module. `groups`, where the layer normalises groups of
    the channels of one image, is the function (n_channels, **options) -> number of groups.
    """

    help: str
    build: str | Callable[..., Any]
    options: tuple[str, ...] = ()  # keys of `ModelConfig`
    groups: str | Callable[..., int] = ""
    normalises: bool = True


NORMS: dict[str, NormEntry] = {
    "batch": NormEntry("each channel over the images of the batch", "mrirecon.models.norms:batch"),
    "group": NormEntry(
        "groups of channels of one image",
        "mrirecon.models.norms:group",
        options=("channels_per_group", "n_groups"),
        groups="mrirecon.models.groups:count_groups",
    ),
    "instance": NormEntry(
        "each channel of one image", "mrirecon.models.norms:instance", groups="mrirecon.models.groups:one_per_channel"
    ),
    "layer": NormEntry(
        "all channels of one image", "mrirecon.models.norms:layer", groups="mrirecon.models.groups:one_for_all"
    ),
    "none": NormEntry("no normalization", "mrirecon.models.norms:none", normalises=False),
}


def norm_options(norm: object) -> tuple[str, ...]:
    """The options that a norm takes; a class or a callable takes none."""
    return NORMS[norm].options if isinstance(norm, str) and norm in NORMS else ()


def normalises(norm: object) -> bool:
    """Say whether this is a named norm that does anything."""
    return isinstance(norm, str) and norm in NORMS and NORMS[norm].normalises


def groups_of(norm: object) -> Callable[..., int] | None:
    """(n_channels, **options) -> number of groups, of a norm that normalises groups of channels, else None.

    Instance and layer norm are such, too (Wu & He 2018).
    """
    entry = NORMS.get(norm) if isinstance(norm, str) else None
    return builder(entry.groups) if entry and entry.groups else None
