"""What a rule hands to the ledger: effects with intervals at any level, or why there are none. No torch here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mrirecon.ablation.claims.cells import Pair
from mrirecon.ablation.claims.measures import Limits
from mrirecon.ablation.claims.sources import Sources
from mrirecon.errors import InputError
from mrirecon.evaluation.stats import crossed_effect


@dataclass(frozen=True)
class Estimate:
    """One effect that a claim speaks about."""

    name: str
    effect: float
    at: Callable[[float], Limits]  # confidence level -> interval
    over: str  # what the interval is over, in words; empty: it is exact


@dataclass(frozen=True)
class Evidence:
    """All effects that a claim needs; it is supported if all of them are where it says."""

    cells: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    note: str = ""  # what a reader has to know besides
    unclear: str = ""  # why the cells that are there cannot decide it
    is_absent: bool = False  # the study has no such cells


ABSENT = Evidence(is_absent=True)
Rule = Callable[[Sources], Evidence]


def exact(name: str, value: float) -> Estimate:
    """An effect without noise."""
    return Estimate(name, value, lambda _level: Limits(value, value), "")


def over_table(name: str, d: np.ndarray, what: str) -> Estimate | None:
    """Mean of a table (n_seeds, n_units) with its crossed t interval; None where there is too little for one."""
    try:
        effect = crossed_effect(d)
    except InputError:
        return None
    return Estimate(name, effect.mean, lambda level: Limits(*effect.interval(level)), what)


def over_draws(name: str, found: Mapping[str, Sequence[Limits]], block: str) -> Estimate | None:
    """Mean of a number that the tuning found, known between limits, with a t interval over its replicates.

    The replicates are the tuning draws, each the mean over blocks; or the blocks (cells that differ in other factors),
    each the mean over draws: whichever are more, since a single draw has no noise to be seen. The interval reaches from
    the lower limits' lower end to the upper limits' upper end.

    Args:
        name: Of the effect.
        found: By block, its value at each draw; not finite limits mean that it is unbounded.
        block: What blocks are called.

    Returns:
        None with a single replicate.
    """
    values = np.array([list(of_block) for of_block in found.values()], dtype=float)  # (blocks, draws, 2)
    n_blocks, n_draws, _ = values.shape
    by_draw = n_draws >= n_blocks
    low, high = values.mean(axis=0 if by_draw else 1).T
    if len(low) < 2:
        return None
    ends = [over_table(name, end[:, None], "") for end in (low, high) if np.isfinite(end).all()]
    known = {"low": np.isfinite(low).all(), "high": np.isfinite(high).all()}

    def at(level: float) -> Limits:
        lower = ends[0].at(level).low if known["low"] and ends[0] else -math.inf
        upper = ends[-1].at(level).high if known["high"] and ends[-1] else math.inf
        return Limits(lower, upper)

    effects = [end.effect for end in ends if end]
    what = f"{n_draws} tuning draws" if by_draw else f"{n_blocks} {block}"
    return Estimate(name, float(np.mean(effects)) if effects else math.nan, at, what)


def evidence_of(
    sources: Sources, cells: Sequence[str], estimates: Sequence[Estimate | None], reason: str, note: str = ""
) -> Evidence:
    """Evidence of all estimates; without it for a reason where one could not be made."""
    made = tuple(estimate for estimate in estimates if estimate is not None)
    if len(made) < len(estimates):
        return Evidence(tuple(cells), unclear=reason)
    edges = sources.edges(cells)
    said = [note, f"best rate at the edge of its range: {', '.join(edges)}" if edges else ""]
    return Evidence(tuple(cells), made, "; ".join(text for text in said if text))


def not_reran(sources: Sources, cells: Sequence[str]) -> str:
    """Why reruns of these cells cannot be compared; empty: they can."""
    if diverged := sources.diverged(cells):
        return f"reruns diverged in {', '.join(diverged)}, and what is left of a cell are its better runs"
    missing = [cell for cell in cells if len(sources.reruns(cell)) < len(sources.grid.seeds)]
    return f"reruns are missing in {', '.join(missing)}" if missing else ""


def cells_of(found: Sequence[Pair]) -> tuple[str, ...]:
    """All cells of some pairs, each once."""
    return tuple(dict.fromkeys(cell for pair in found for cell in pair))
