"""Factors and levels of a study: cells, seeds, tuning, reference; and which of its levels are one network."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from mrirecon.ablation.study.identity import DEFAULTS, TODAY, Defaults
from mrirecon.errors import InputError
from mrirecon.models.groups import default_channels_per_group, level_widths
from mrirecon.tables.norms import groups_of, norm_options

ZERO_FILLED, EXCLUDE = "zero-filled", "exclude"  # what becomes of diverged reruns


@dataclass(frozen=True)
class Cell:
    """One combination of levels."""

    name: str  # such as adam/group
    levels: dict[str, str]  # factor -> label
    settings: dict[str, Any]  # all dotted configuration keys but those of data folder and seed
    defaults: Defaults = DEFAULTS[TODAY]  # of the time of its study


@dataclass(frozen=True)
class Tuning:
    """Settings by which each cell is tuned."""

    trials: int = 16  # a power of two
    repeats: int = 1  # independent draws of the trials
    dimensions: tuple[str, ...] = ("lr",)
    objectives: tuple[str, ...] = ("final",)
    first_seed: int = 1000  # of the tuning runs, one per repeat; disjoint from the seeds of the reruns
    sweep: int = 7  # learning rates around the winner
    widening: str = "add"  # what the trials of a widened range do, see `tune.WIDENINGS`; `add` in the first studies
    spaces: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)  # cell -> tuned key -> low, high
    bounds: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)  # what no widened range leaves

    @property
    def seeds(self) -> tuple[int, ...]:
        """One for each repeat."""
        return tuple(range(self.first_seed, self.first_seed + self.repeats))


@dataclass(frozen=True)
class Grid:
    """A study, resolved and checked (see `read_grid`)."""

    name: str
    factors: dict[str, dict[str, dict[str, Any]]]  # factor -> label -> dotted keys that it sets
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    tuning: Tuning
    reference: str  # name of the cell that the others are held against
    margin: float = 0.01  # of equivalence: share of the gap in validation SSIM from zero-filled to the reference
    margin_ssim: float = 0.0  # the same in SSIM; above 0 it counts instead
    has_margin: bool = False  # the file names a margin
    diverged: str = ZERO_FILLED  # what a diverged rerun scores as: the zero-filled image, or it is excluded
    looks: dict[int, float] = field(default_factory=dict)  # seeds at which verdicts are read -> share of alpha
    all_pairs: bool = False  # compare every two cells as well
    targets: tuple[float, ...] = (0.9, 0.97, 0.995)  # shares of that gap
    simulate: dict[str, Any] = field(default_factory=dict)  # what `data simulate` makes when no data are given
    notes: tuple[str, ...] = ()  # what a reader has to know, such as BatchNorm at batch 1

    @property
    def draws(self) -> tuple[int, ...]:
        """The tuning draw whose winner each seed reruns: they are dealt in turn, so that seeds are nested in draws."""
        return tuple(i % self.tuning.repeats for i in range(len(self.seeds)))

    @property
    def n_units(self) -> int:
        """Number of independent repetitions of a cell: its tuning draws, or with a single one the seeds."""
        return len(set(self.draws)) if self.tuning.repeats > 1 else len(self.seeds)

    def cell(self, name: str) -> Cell:
        """The cell of a name."""
        return next(cell for cell in self.cells if cell.name == name)


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
