"""A study's plan: factors and their levels, seeds, tuning and what is tested against what. No torch here."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One combination of levels."""

    name: str  # such as adam/group
    levels: dict[str, str]  # factor -> label
    settings: dict[str, Any]  # all dotted configuration keys but those of data folder and seed


@dataclass(frozen=True)
class Tuning:
    """How each cell is tuned."""

    trials: int = 16  # a power of two
    repeats: int = 1  # independent draws of the trials
    dimensions: tuple[str, ...] = ("lr",)
    objectives: tuple[str, ...] = ("final",)
    first_seed: int = 1000  # of the tuning runs, one per repeat; disjoint from the seeds of the reruns
    sweep: int = 7  # learning rates around the winner
    spaces: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)  # cell -> tuned key -> low, high

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
    margin: float = 0.01  # of equivalence: share of the gap from zero-filled to the reference
    targets: tuple[float, ...] = (0.9, 0.97, 0.995)  # shares of that gap
    simulate: dict[str, Any] = field(default_factory=dict)  # what `data simulate` makes when no data are given
    notes: tuple[str, ...] = ()  # what a reader has to know, such as BatchNorm at batch 1

    def cell(self, name: str) -> Cell:
        """The cell of a name."""
        return next(cell for cell in self.cells if cell.name == name)
