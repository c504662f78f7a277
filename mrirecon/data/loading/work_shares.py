"""How work is shared between processes: by rules that every process works out for itself, with the same result."""

from collections.abc import Sequence
from itertools import accumulate
from math import prod

from mrirecon.data.volume import Volume


def unit_costs(
    units: Sequence[Sequence[int]], items: Sequence[tuple[int, int]], volumes: Sequence[Volume]
) -> list[int]:
    """Slices x coils x pixels of each unit.

    Args:
        units: Lists of positions in `items`, each of one volume.
        items: (volume, slice) of every slice.
        volumes: The volumes.
    """
    return [len(unit) * prod(volumes[items[unit[0]][0]].shape[1:]) for unit in units]


def share_neighbours(costs: Sequence[float], n: int) -> list[int]:
    """Owner of each piece of work, 0 to n - 1; neighbours stay together, so few volumes are divided.

    The line of all costs is cut into `n` equal lengths and a piece goes where its middle lies: nobody has more than
    one piece's cost above the mean.
    """
    ends = list(accumulate(costs))
    return [min(int((end - cost / 2) / ends[-1] * n), n - 1) for end, cost in zip(ends, costs, strict=True)]


def share_whole(costs: Sequence[float], n: int) -> list[int]:
    """Owner of each piece of work that cannot be cut, 0 to n - 1: the costliest first, each to the least busy."""
    loads, owners = [0.0] * n, [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        owners[i] = loads.index(min(loads))
        loads[owners[i]] += costs[i]
    return owners
