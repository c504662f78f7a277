"""Say what does not stop a comparison, but a reader of its verdict has to know: warnings and caveats."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrirecon.evaluation.pairing import Pairs
from mrirecon.evaluation.stats import MIN_PATIENTS, MIN_SEEDS, Comparison, in_words
from mrirecon.report.run_files import read_json, slices_per_step
from mrirecon.workflows.compare.items import FOREIGN, TRAINING, Cell, Item

_SHOWN = 3  # copies that are named one by one
Fact = Callable[[Item], Any]  # None or empty where it is not known


def warnings_of(cells: Sequence[Cell], pairs: Pairs) -> list[str]:
    """One sentence for each thing besides the methods in which the compared differ, for what the tables lack or have
    twice, and for scores that flatter.
    """
    items = [item for cell in cells for item in cell.items]
    found = []
    for what, fact in _FACTS.items():
        known = [(item.table.name, value) for item in items if (value := fact(item))]
        other = next(((name, value) for name, value in known if value != known[0][1]), None)
        found += [] if other is None else [f"different {what}: {known[0][1]} ({known[0][0]}), {other[1]} ({other[0]})"]
    return [*found, *_of_tables(cells, pairs), *_flattered(items)]


def _of_tables(cells: Sequence[Cell], pairs: Pairs) -> Iterator[str]:
    """Rows that cannot be used, patients and seeds that nobody names, volumes that may be one."""
    for volume, table, row, why in pairs.excluded:
        yield f"{volume} is left out of all that are compared: row {row} of {table} cannot be used ({why})"
    if pairs.no_patients:
        n, named = len(pairs.no_patients), pairs.no_patients[0] + ", ..." * (len(pairs.no_patients) > 1)
        yield f"no table has the patient of {n} volume{'s' * (n > 1)} ({named}): each volume counts as one of its own"
    for cell in cells:
        if numbered := [item for item in cell.items if item.is_numbered]:
            yield (
                f"the tables of {cell.name} name no seeds: they are numbered 0 to {len(numbered) - 1} in the order of "
                "their names"
            )
    for volumes in _possible_copies(pairs):
        shown = volumes[:_SHOWN] if len(volumes) > _SHOWN + 1 else volumes[:-1]
        rest = f"{len(volumes) - _SHOWN} more" if len(volumes) > _SHOWN + 1 else volumes[-1]
        named = f"{', '.join(shown)} and {rest}"
        yield (
            f"{named} have equal zero-filled scores: possibly one scan under several names, which would count as "
            "several volumes"
        )


def _possible_copies(pairs: Pairs) -> list[list[str]]:
    """Volumes of which the zero-filled images have the same scores, to the last digit; other scans differ in some."""
    found: dict[Any, list[str]] = {}
    for i, (volume, acceleration) in enumerate(zip(pairs.volumes, pairs.accelerations, strict=True)):
        known = [(metric, float(values[i])) for metric, values in pairs.zero_filled.items()]
        if scores := tuple((metric, score) for metric, score in known if not math.isnan(score)):
            found.setdefault((acceleration, scores), []).append(volume)
    copies = [volumes for volumes in found.values() if len(volumes) > 1]
    return [list(volumes) for volumes in dict.fromkeys(map(tuple, copies))]


def _flattered(items: Sequence[Item]) -> Iterator[str]:
    """Scores of volumes that a training has seen, or that chose its checkpoint."""
    for item in items:
        if seen := _trained_on(item):
            yield f"{item.table.name} was trained on {len(seen)} of these volumes ({seen[0]}): its scores flatter it"
    chosen = [item.table.name for item in items if item.table.split == "val" and _checkpoint(item) == "best"]
    if chosen:
        yield (
            f"the checkpoint of {', '.join(chosen)} was chosen by the scores of the split val: they are optimistic, "
            "the split test is for verdicts"
        )


def _trained_on(item: Item) -> list[str]:
    data = item.summary.get("data")
    if not item.run or not item.config or not isinstance(data, str):
        return []
    if Path(item.config["data.path"]).resolve() != Path(data).resolve():
        return []
    trained = set(read_json(item.run.split).get("train", ()))
    return sorted(trained & set(item.table.values("volume")))


def _manifest(facts: dict[str, Any]) -> str:
    return str((facts.get("data_manifest") or {}).get("sha256", ""))[:12]


def _scored(item: Item) -> dict[str, Any]:
    found = item.summary.get("provenance")
    return found if isinstance(found, dict) else {}


def _code(facts: dict[str, Any]) -> str:
    git = facts.get("git") or {}
    parts = [facts.get("mrirecon"), str(git.get("commit", ""))[:9], "with changes" if git.get("dirty") else ""]
    return " ".join(filter(None, parts))


def budget(item: Item) -> str:
    """Word the budget of a training, such as `200 steps x 4 slices`; empty where it is not known."""
    config, n_steps = item.config, item.n_steps()
    return f"{n_steps} steps x {slices_per_step(item.provenance(), config)} slices" if config and n_steps else ""


def _checkpoint(item: Item) -> str:
    return item.table.rows[0].checkpoint


def _of_summary(*keys: str) -> Fact:
    """Keys of an evaluation that decide its last digits, or more."""
    return lambda item: ", ".join(f"{json.dumps(item.summary[key])}" for key in keys if item.summary.get(key))


_FACTS: dict[str, Fact] = {
    "data in the evaluations (manifest)": lambda item: _manifest(_scored(item)),
    "data in the trainings (manifest)": lambda item: _manifest(item.provenance()),
    "code in the evaluations": lambda item: _code(_scored(item)),
    "code in the trainings": lambda item: _code(item.provenance()),
    "training budgets": budget,
    "checkpoints": _checkpoint,
    "BatchNorm statistics": _of_summary("bn_stats"),
    "precision of the evaluations": _of_summary("precision"),
    "batch sizes of the evaluations": _of_summary("batch_size"),
}


def caveats_of(cells: Sequence[Cell], pairs: Pairs) -> list[str]:
    """The sentences.

    Args:
        cells: What was compared.
        pairs: On what.
    """
    return [*_on_seeds(cells), *_on_patients(pairs), *_on_masks(cells, pairs)]


def words_of(comparison: Comparison, cell: Cell, reference: Cell, at: str, pairs: Pairs) -> str:
    """The comparison's sentence, which also says whose masks are not declared."""
    at = f" at {at}" if at else ""
    words = in_words(comparison, f"{cell.name}{at}", f"{reference.name}{at}")
    names = undeclared_cells((cell, reference), pairs)
    return f"{words.removesuffix('.')}; the masks of {' and '.join(names)} are undeclared." if names else words


def undeclared_cells(cells: Iterable[Cell], pairs: Pairs) -> list[str]:
    """Names of those of which mask or acceleration are not declared."""
    return [cell.name for cell in cells if any(item.table.name in pairs.undeclared for item in cell.items)]


def _on_seeds(cells: Sequence[Cell]) -> list[str]:
    said = []
    if single := [c.name for c in cells if len(c.items) == 1 and c.items[0].kind == TRAINING]:
        said.append(
            f"Of {', '.join(single)} there is one run: nothing is known about the spread between its trainings."
        )
    if foreign := [c.name for c in cells if len(c.items) == 1 and c.items[0].kind == FOREIGN]:
        said.append(f"Of {', '.join(foreign)} one set of images is known: its spread between trainings is not.")
    reference, *others = cells
    shared = {
        c.name: (len(set(c.seeds) & set(reference.seeds)), len(set(c.seeds) | set(reference.seeds))) for c in others
    }
    if paired := [name for name, (n, of) in shared.items() if MIN_SEEDS <= n < of]:
        said.append(
            f"Differences of {', '.join(paired)} are over the seeds that {reference.name} has, too, so they need not "
            "equal those of the means."
        )
    return said


def _on_patients(pairs: Pairs) -> list[str]:
    n_patients = len(set(pairs.patients))
    counts = np.unique(pairs.patients, return_counts=True)[1]
    found = []
    if n_patients < MIN_PATIENTS:
        found.append(f"With {n_patients} patient{'s' * (n_patients != 1)} little is known about others.")
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
