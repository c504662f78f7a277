"""Split volumes by patient, and select those of a split that a configuration asks for."""

from collections.abc import Sequence

import numpy as np

from mrirecon.config import DataConfig
from mrirecon.data.folders.check import check_slices
from mrirecon.data.folders.volume_files import SPLITS
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, unknown_name

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


def split_seed(config: DataConfig, seed: int) -> int:
    """Return the seed that draws splits and volumes: the configuration's own, else that of the run.

    Raises:
        InputError: Below -1.
    """
    if config.split_seed < -1:
        raise InputError(f"data.split_seed is {config.split_seed}; give 0 or more, or -1 for the seed of the run")
    return seed if config.split_seed == -1 else config.split_seed


def select_volumes(volumes: list[Volume], config: DataConfig, seed: int, n_volumes: int = 0) -> list[Volume]:
    """Select volumes by coils, acquisition and number; all of them must have the slices asked for.

    Args:
        volumes: Of one split, their layout checked.
        config: The selection.
        seed: Draws volumes where fewer are asked for than there are, unless `config` has a `split_seed`.
        n_volumes: Draws again, so many of the selected; 0: keeps all.

    Raises:
        InputError: A kind, acquisition or slice that is not there.
    """
    volumes = of_kind(volumes, config.coils)
    volumes = _of_acquisitions(volumes, config.acquisition)
    seed = split_seed(config, seed)
    volumes = draw_volumes(draw_volumes(volumes, config.volumes, seed), n_volumes, seed)
    check_slices(volumes, config.slices)
    return volumes


def of_kind(volumes: list[Volume], coils: str) -> list[Volume]:
    """One kind of coils; a folder may not mix them, as their images are not the same thing."""
    single = [volume for volume in volumes if volume.single_coil]
    multi = [volume for volume in volumes if not volume.single_coil]
    if coils == "auto" and single and multi:
        raise InputError(
            f"single-coil ({single[0].name}, {len(single)} in all) and multi-coil files ({multi[0].name}, "
            f"{len(multi)} in all) stand together; choose: --coils single, multi or both"
        )
    kept = {"single": single, "multi": multi}.get(coils, volumes)
    if not kept:
        raise InputError(f"none of the {len(volumes)} files is {coils}-coil; leave --coils out")
    return kept


def _of_acquisitions(volumes: list[Volume], wanted: Sequence[str]) -> list[Volume]:
    present = sorted({volume.acquisition for volume in volumes})
    for name in wanted:
        if name not in present:
            raise unknown_name("acquisition", name, present)
    return [volume for volume in volumes if not wanted or volume.acquisition in wanted]


def require_targets(volumes: Sequence[Volume], needed_by: str, advice: str) -> None:
    """Raise an InputError for the first of the volumes that has no reference image.

    Args:
        volumes: All that must have one.
        needed_by: What needs it, such as "evaluation".
        advice: What to do.
    """
    missing = [volume.name for volume in volumes if not volume.has_target]
    if missing:
        raise InputError(
            f"{missing[0]}: has no reference image, which {needed_by} needs ({len(missing)} of {len(volumes)} files "
            f"lack it); {advice}"
        )
