"""Scoring is cut into units (one volume, neighbouring slices) by a rule that knows no number of processes.

A network's output differs in the last digits with its batch, so equal tables need equal units.
"""

from collections.abc import Sequence


def cut_units(items: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Cut `(volume, slice)` items into lists of at most `batch_size` positions, each of one volume, in order.

    The slices of a volume have one shape, of image, k-space and mask, so a unit is a batch whatever it carries.
    """
    units: list[list[int]] = []
    for position, (volume, _) in enumerate(items):
        if units and len(units[-1]) < batch_size and items[units[-1][0]][0] == volume:
            units[-1].append(position)
        else:
            units.append([position])
    return units
