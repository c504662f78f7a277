"""What a verdict leaves open, in sentences that stand beside it."""

from collections.abc import Iterable, Sequence

import numpy as np

from mrirecon.evaluation.pairing import PAIRED_SEEDS, SEED_MEANS, SINGLE_RUNS, Pairs
from mrirecon.evaluation.stats import MIN_PATIENTS, Comparison, in_words, smallest_p
from mrirecon.workflows.compare.cells import Cell
from mrirecon.workflows.compare.items import FOREIGN, METHOD, TRAINING


def caveats_of(cells: Sequence[Cell], pairs: Pairs, over: str) -> list[str]:
    """The sentences.

    Args:
        cells: What was compared.
        pairs: On what.
        over: What `design` says.
    """
    return [
        *_on_seeds(cells, over),
        *_on_power(pairs, over),
        *_on_patients(pairs, over),
        *_on_masks(cells, pairs),
    ]


def words_of(comparison: Comparison, cell: Cell, reference: Cell, pairs: Pairs, over: str) -> str:
    """The comparison's sentence, which also says whose masks are not declared."""
    words = in_words(comparison, cell.name, reference.name)
    if over == SINGLE_RUNS:
        words = words.replace("1 paired seed,", "one run of each,")
    elif over == SEED_MEANS:  # one row of means is no single run
        words = words.replace("1 paired seed,", "means over the seeds of each,")
        words = words.replace("of these single runs", "of these trainings")
        words = words.replace("one run of each says", "means over unpaired seeds say")
    names = undeclared_cells((cell, reference), pairs)
    return f"{words.removesuffix('.')}; the masks of {' and '.join(names)} are undeclared." if names else words


def undeclared_cells(cells: Iterable[Cell], pairs: Pairs) -> list[str]:
    """Names of those of which mask or acceleration are not declared."""
    return [cell.name for cell in cells if any(item.table.name in pairs.undeclared for item in cell.items)]


def _on_seeds(cells: Sequence[Cell], over: str) -> list[str]:
    kinds = [cell.items[0].kind for cell in cells]
    if over == SINGLE_RUNS:
        only_methods = all(kind == METHOD for kind in kinds)
        return [] if only_methods else ["One run of each: nothing is known about the spread between trainings."]
    if over == SEED_MEANS:
        seeds = "; ".join(
            f"{c.name} {', '.join(map(str, c.seeds)) or 'unknown'}" for c in cells if c.seeds or _trained(c)
        )
        return [
            f"The seeds do not pair ({seeds}), so each is its mean over its seeds, and intervals and tests are over "
            "patients only: they say nothing about other trainings."
        ]
    return [
        f"Of {cell.name} one set of images is known: its own spread between trainings is not in these numbers."
        for cell, kind in zip(cells, kinds, strict=True)
        if kind == FOREIGN
    ]


def _trained(cell: Cell) -> bool:
    return cell.items[0].kind == TRAINING


def _on_power(pairs: Pairs, over: str) -> list[str]:
    """Too few signs to flip for any verdict; of seeds the comparisons themselves say so."""
    n = len(set(pairs.patients))
    if over == PAIRED_SEEDS or n < MIN_PATIENTS or smallest_p(n) <= 0.05:
        return []
    return [f"{n} patients cannot reach p <= 0.05 (smallest p {smallest_p(n):.2g}), whatever the differences."]


def _on_patients(pairs: Pairs, over: str) -> list[str]:
    n_patients = len(set(pairs.patients))
    counts = np.unique(pairs.patients, return_counts=True)[1]
    found = []
    if over == PAIRED_SEEDS and n_patients < MIN_PATIENTS:
        found.append(f"With {n_patients} patients the result holds for these patients only.")
    if len(set(counts)) > 1 or len(set(pairs.weights)) > 1:
        found.append("Differences give each patient the same weight, so they need not equal those of the means.")
    return found


def _on_masks(cells: Sequence[Cell], pairs: Pairs) -> list[str]:
    found = []
    if names := undeclared_cells(cells, pairs):
        found.append(
            f"Masks or accelerations of {', '.join(names)} are undeclared: nobody said that the images were made from "
            "the same samples."
        )
    if names := [cell.name for cell in cells if any(item.table.name in pairs.unchecked for item in cell.items)]:
        found.append(f"The masks of {', '.join(names)} are as declared, not checked.")
    return found
