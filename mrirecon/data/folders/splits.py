"""Splits by patient: no patient has volumes on two sides."""

from collections.abc import Sequence

import numpy as np

from mrirecon.data.volume import Volume
from mrirecon.errors import InputError

SPLITS = ("train", "val", "test")
_SHARE = 0.15  # of the patients, for val and for test


def patients(volumes: Sequence[Volume]) -> list[str]:
    """The different patients of `volumes`, sorted."""
    return sorted({volume.patient for volume in volumes})


def split_by_patient(volumes: Sequence[Volume], seed: int) -> dict[str, list[Volume]]:
    """70/15/15 % of the patients by seed, at least one in each of train, val and test.

    Raises:
        InputError: Fewer than three patients.
    """
    names = patients(volumes)
    if len(names) < 3:
        raise InputError(
            f"{len(volumes)} volumes of {len(names)} patient(s) cannot be split into train, val and test; "
            "add volumes of other patients, or make folders train/ val/ test/ of your own"
        )
    n_held_out = max(1, round(_SHARE * len(names)))
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    held_out = {"val": set(order[:n_held_out]), "test": set(order[n_held_out : 2 * n_held_out])}
    sides = held_out | {"train": set(order[2 * n_held_out :])}
    return {split: [v for v in volumes if v.patient in sides[split]] for split in SPLITS}


def halve_by_patient(volumes: Sequence[Volume]) -> tuple[list[Volume], list[Volume]]:
    """Two halves by patient, the same for every seed, so that runs of all seeds share one test set.

    Raises:
        InputError: Only one patient.
    """
    names = patients(volumes)
    if len(names) < 2:
        raise InputError("one patient cannot be halved into tune and test")
    order = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    first = set(order[: (len(order) + 1) // 2])
    return [v for v in volumes if v.patient in first], [v for v in volumes if v.patient not in first]


def draw_volumes(volumes: Sequence[Volume], n: int, seed: int) -> list[Volume]:
    """`n` volumes drawn by seed, in their old order; all for 0 or where there are no more than `n`.

    Raises:
        InputError: `n` is negative.
    """
    if n < 0:
        raise InputError(f"{n} volumes: give a positive number, or 0 for all")
    if n == 0 or n >= len(volumes):
        return list(volumes)
    chosen = np.random.default_rng(seed).permutation(len(volumes))[:n]
    return [volumes[i] for i in sorted(chosen)]
