"""Which colour, line and panel each cell of a study has: the same in all figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Okabe and Ito's palette, safe for the colour-blind, without its yellow, which is too light for lines
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4d4d4d")
LINES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))


@dataclass(frozen=True)
class CellStyle:
    """How the lines of a cell look."""

    colour: str
    line: Any  # a name or a pattern of dashes, as matplotlib takes it
    label: str  # within its panel


@dataclass(frozen=True)
class Panel:
    """Cells that are drawn into one pair of axes."""

    title: str
    cells: Sequence[Mapping[str, Any]]


def varied(study: Mapping[str, Any]) -> list[str]:
    """The factors with more than one level; the first one where none has."""
    names = [name for name, levels in study["factors"].items() if len(levels) > 1]
    return names or list(study["factors"])[:1]


def cell_styles(study: Mapping[str, Any]) -> dict[str, CellStyle]:
    """Colour by the first varied factor; line by the third and following ones (the second has the panels)."""
    first, *others = varied(study)
    further = others[1:]
    levels = list(study["factors"][first])
    combinations: list[tuple[str, ...]] = []
    styles = {}
    for cell in study["cells"]:
        place = levels.index(cell["levels"][first])
        combination = tuple(cell["levels"][name] for name in further)
        if combination not in combinations:
            combinations.append(combination)
        line = combinations.index(combination) + place // len(COLOURS)
        name = ", ".join([cell["levels"][first], *combination])
        styles[cell["cell"]] = CellStyle(COLOURS[place % len(COLOURS)], LINES[line % len(LINES)], name)
    return styles


def panels(study: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """One panel for each level of the second varied factor that `cells` have; a single one without such a factor."""
    names = varied(study)
    if len(names) < 2:
        return [Panel("", cells)]
    second = names[1]
    found = {level: [cell for cell in cells if cell["levels"][second] == level] for level in study["factors"][second]}
    return [Panel(f"{second}: {level}", group) for level, group in found.items() if group]
