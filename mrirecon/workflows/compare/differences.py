"""The differences of a comparison: what is paired with what, and how large a difference counts."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mrirecon.errors import InputError
from mrirecon.evaluation.pairing import PAIRED_SEEDS, SEED_MEANS, SINGLE_RUNS, Pairs
from mrirecon.evaluation.stats import Comparison, better_is, compare_family
from mrirecon.evaluation.stats.crossed import what_is_sampled
from mrirecon.workflows.compare.cells import Cell
from mrirecon.workflows.compare.items import TRAINING


class Margin(NamedTuple):
    """Differences within `value`, in units of the metric, count as none; None: nothing says how large they may be."""

    value: float | None
    reason: str  # where it comes from, or why there is none


def design(cells: Sequence[Cell]) -> str:
    """Whether seeds pair: PAIRED_SEEDS, SEED_MEANS or SINGLE_RUNS.

    Seeds pair where all trainings have the same ones; a method or foreign images, without seeds, pair with each.
    """
    if all(len(cell.items) == 1 for cell in cells):
        return SINGLE_RUNS
    trained = [cell.items[0].kind == TRAINING for cell in cells]
    seeds = {cell.seeds for cell, is_trained in zip(cells, trained, strict=True) if is_trained}
    has_seeds = trained[0] or all(trained[1:])  # every difference to the first has them
    return PAIRED_SEEDS if len(seeds) == 1 and has_seeds else SEED_MEANS


def aligned(cells: Sequence[Cell], scores: np.ndarray, over: str) -> list[np.ndarray]:
    """The scores of each cell, all of one shape (n_seeds, n_units); one row, the mean, where seeds do not pair.

    Args:
        cells: What is compared.
        scores: Of all items, (n_items, n_units).
        over: What `design` says.
    """
    tables = [scores[list(cell.rows)] for cell in cells]
    if over != PAIRED_SEEDS:
        tables = [table.mean(axis=0, keepdims=True) for table in tables]
    n_seeds = max(map(len, tables))
    return [np.broadcast_to(table, (n_seeds, table.shape[1])) for table in tables]


def differences(cells: Sequence[Cell], scores: np.ndarray, over: str) -> dict[str, np.ndarray]:
    """Each cell minus the first, (n_seeds, n_units); see `aligned`."""
    reference, *others = aligned(cells, scores, over)
    with np.errstate(invalid="ignore"):  # a perfect image has an infinite PSNR
        return {cell.name: table - reference for cell, table in zip(cells[1:], others, strict=True)}


def mean_scores(cell: Cell, pairs: Pairs, metric: str) -> np.ndarray:
    """Of each of its runs over the units, (n_seeds,)."""
    return np.average(pairs.scores[metric][list(cell.rows)], axis=1, weights=pairs.weights)


def mean_zero_filled(pairs: Pairs, metric: str) -> float:
    """Over the units; NaN where it is not known."""
    return float(np.average(pairs.zero_filled[metric], weights=pairs.weights))


def check_margin(text: str) -> None:
    """Refuse a margin that is no share and no number.

    Raises:
        InputError: It is neither, or not above 0.
    """
    number = text.removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"--margin {text}; give a share of the gap, such as 1%, or a number above 0, such as 0.001")


def find_margin(text: str, gain: float, reference: str, is_chosen: bool) -> Margin:
    """The largest difference that counts as none.

    Args:
        text: A share such as `1%`, or a number in units of the chosen metric (of the others the share is 1 % then).
        gain: Of the reference over the zero-filled image in this metric; not finite where it is not known.
        reference: Its name.
        is_chosen: This is the metric of the verdict.
    """
    if is_chosen and not text.endswith("%"):
        return Margin(float(text), "stated beforehand")
    if not math.isfinite(gain):
        return Margin(None, "the zero-filled scores are not known")
    if gain == 0:
        return Margin(None, "the reference is the zero-filled image")
    if gain < 0:
        return Margin(None, f"{reference} is worse than the zero-filled image")
    percent = float(text.removesuffix("%")) if text.endswith("%") else 1.0
    return Margin(percent / 100 * gain, f"{percent:g} % of the gap from the zero-filled image to {reference}")


def why_not_tested(over: str, named: Mapping[str, np.ndarray], pairs: Pairs) -> str:
    """Why nothing can be inferred from these differences; empty where it can."""
    if not all(np.isfinite(d).all() for d in named.values()):
        return "some scores are not finite (a perfect or a broken image, or no object in it)"
    n_seeds = len(next(iter(named.values())))
    try:
        what_is_sampled(n_seeds, len(set(pairs.patients)))
    except InputError:
        runs = {SEED_MEANS: "seeds that do not pair", SINGLE_RUNS: "one run of each"}[over]
        return f"{runs} and {len(set(pairs.patients))} patients say too little; it takes 2 paired seeds or 5 patients"
    return ""


def compare_differences(
    named: Mapping[str, np.ndarray], pairs: Pairs, metric: str, margin: float | None, seed: int
) -> list[Comparison]:
    """The family of all differences of one metric."""
    return compare_family(named, pairs.patients, metric=metric, better=better_is(metric), margin=margin, seed=seed)
