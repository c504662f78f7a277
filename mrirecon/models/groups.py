"""Channels of the levels of a U-Net, and groups of the channels of a norm; studies compare networks by them.

Apart from `norms`, so that a grid is read without torch."""

from mrirecon.errors import InputError

_WIDEST = 2**14  # channels; one convolution between such levels takes 10 GB
_MOST_POOLS = 14


def level_widths(channels: int, pools: int) -> list[int]:
    """Return the channels of each level, the lowest resolution last; each level doubles them (Ronneberger et al. 2015).

    Raises:
        InputError: Fewer than one, or so many that no machine could hold the network.
    """
    if channels < 1 or pools < 0:
        raise InputError(f"model.channels is {channels}, pools {pools}; too few")
    if pools > _MOST_POOLS or channels * 2**pools > _WIDEST:
        raise InputError(
            f"model.channels is {channels}, pools {pools}: each pool doubles the channels, at most to {_WIDEST}; "
            "use fewer"
        )
    return [channels * 2**level for level in range(pools + 1)]


def default_channels_per_group(base_channels: int) -> int:
    """Return 32 from 64 base channels upward, else half of them, so that the first level has two groups or more."""
    return 32 if base_channels >= 64 else max(1, base_channels // 2)


def one_for_all(_n_channels: int) -> int:
    """Return 1: for layer norm all channels are one group (Wu & He 2018)."""
    return 1


def one_per_channel(n_channels: int) -> int:
    """Return `n_channels`: for instance norm each channel is a group (Wu & He 2018)."""
    return n_channels


def count_groups(n_channels: int, channels_per_group: int | None = None, n_groups: int | None = None) -> int:
    """Count the groups of a layer with `n_channels`; a layer with fewer channels than asked for takes what it has.

    Wu & He (2018, table 3) compare both ways to say it, the number of groups and that of channels in each.

    Args:
        n_channels: Channels of the layer.
        channels_per_group: Channels in each group; default `default_channels_per_group(n_channels)`.
        n_groups: Number of groups, in place of `channels_per_group`.

    Raises:
        InputError: Both are given, one is below 1, or it does not divide the larger `n_channels`.
    """
    if channels_per_group is not None and n_groups is not None:
        raise InputError(f"got channels_per_group={channels_per_group} and n_groups={n_groups}; give one of them")
    name = "channels_per_group" if n_groups is None else "n_groups"
    wanted = n_groups if n_groups is not None else channels_per_group
    if wanted is None:
        wanted = default_channels_per_group(n_channels)
    if wanted < 1:
        raise InputError(f"{name} is {wanted}; it must be 1 or more")
    divisor = min(wanted, n_channels)
    if n_channels % divisor:
        raise InputError(f"{name}={wanted} does not divide the {n_channels} channels of a layer; choose a divisor")
    return divisor if n_groups is not None else n_channels // divisor
