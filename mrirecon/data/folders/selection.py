"""Which volumes of a split a configuration selects."""

from collections.abc import Sequence

from mrirecon.config import DataConfig
from mrirecon.data.folders.check import check_slices
from mrirecon.data.folders.splits import draw_volumes
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, unknown_name


def split_seed(config: DataConfig, seed: int) -> int:
    """What draws splits and volumes: the configuration's own seed, else that of the run.

    Raises:
        InputError: Below -1.
    """
    if config.split_seed < -1:
        raise InputError(f"data.split_seed is {config.split_seed}; give 0 or more, or -1 for the seed of the run")
    return seed if config.split_seed == -1 else config.split_seed


def select_volumes(volumes: list[Volume], config: DataConfig, seed: int, n_volumes: int = 0) -> list[Volume]:
    """Those of the kind, the acquisitions and the number asked for, all of which have the slices asked for.

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


def require_targets(volumes: Sequence[Volume], split: str) -> None:
    """Raise an InputError for the first of the volumes that has no reference image."""
    missing = [volume.name for volume in volumes if not volume.has_target]
    if missing:
        raise InputError(
            f"{missing[0]}: has no reference image, which the split '{split}' needs ({len(missing)} of "
            f"{len(volumes)} files lack it); remove them, or keep them in test/"
        )
