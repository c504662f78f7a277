"""Which levels are one network under two names, and what a reader must know about norms. No torch here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from mrirecon.ablation.study.grid import Cell
from mrirecon.errors import InputError
from mrirecon.models.groups import default_channels_per_group, level_widths
from mrirecon.tables.norms import groups_of, norm_options


def widths(settings: Mapping[str, Any]) -> list[int]:
    """Channels of the U-Net's levels, the lowest resolution last; errors as of `level_widths`."""
    return level_widths(settings["model.channels"], settings["model.pools"])


def groups_per_level(settings: Mapping[str, Any]) -> list[int] | None:
    """Number of groups that a cell's norm has in each level; None for norms without groups.

    Raises:
        InputError: A group size that does not divide the channels.
    """
    norm = settings["model.norm"]
    count, options = groups_of(norm), {key: settings[f"model.{key}"] or None for key in norm_options(norm)}
    if count is None:
        return None
    if "channels_per_group" in options and not any(options.values()):
        options["channels_per_group"] = default_channels_per_group(settings["model.channels"])
    return [count(width, **options) for width in widths(settings)]


def require_different(cells: Sequence[Cell], factors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Refuse two levels of a factor that give the same network in more than half of its blocks.

    Raises:
        InputError: Such levels, or a group size that does not divide the channels of a level.
    """
    for factor, levels in factors.items():
        for first, second in combinations(levels, 2):
            for a, b in _pairs(cells, factor, first, second):
                _compare(a, b, f"{factor} {first} and {second}")


def norm_notes(cells: Iterable[Cell]) -> Iterator[str]:
    """Groups per level, and BatchNorm of single images."""
    seen: dict[str, None] = {}
    for cell in cells:
        settings = cell.settings
        if settings["model.norm"] == "batch" and settings["batch_size"] == 1:
            note = "BatchNorm at batch 1 normalises each image alone in training, and with running statistics after it"
            seen[f"{cell.name}: {note}"] = None
        groups = groups_per_level(settings)
        if norm_options(settings["model.norm"]) and groups:
            label = cell.levels.get("norm", settings["model.norm"])
            counts = "/".join(map(str, groups))
            seen[f"norm {label}: {counts} groups in levels of {'/'.join(map(str, widths(settings)))} channels"] = None
    yield from seen


def _pairs(cells: Sequence[Cell], factor: str, first: str, second: str) -> Iterator[tuple[Cell, Cell]]:
    """Cells that differ in nothing but these two levels."""
    others = {tuple(v for k, v in c.levels.items() if k != factor): c for c in cells if c.levels[factor] == second}
    for cell in cells:
        if cell.levels[factor] == first:
            yield cell, others[tuple(v for k, v in cell.levels.items() if k != factor)]


def _compare(a: Cell, b: Cell, names: str) -> None:
    one, two = groups_per_level(a.settings), groups_per_level(b.settings)
    rest = [key for key in a.settings if not key.startswith(("model.norm", "model.channels_per", "model.n_groups"))]
    if one is None or two is None or any(a.settings[key] != b.settings[key] for key in rest):
        return
    if a.settings["model.norm_position"] != b.settings["model.norm_position"]:
        return
    same = sum(x == y for x, y in zip(one, two, strict=True))
    if same * 2 > len(one):
        raise InputError(
            f"levels {names} give the same network in {same} of {len(one)} levels (groups {one} and {two}); "
            "set model.channels_per_group in the base so that they differ, or leave one out"
        )
