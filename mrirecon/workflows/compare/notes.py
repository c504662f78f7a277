"""What does not stop a comparison, but a reader of its verdict has to know."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mrirecon.report.run_files import read_json, slices_per_step
from mrirecon.workflows.compare.cells import Cell
from mrirecon.workflows.compare.items import Item

Fact = Callable[[Item], Any]  # None or empty where it is not known


def warnings_of(cells: Sequence[Cell]) -> list[str]:
    """One sentence for each thing besides the methods in which the compared differ, and for scores that flatter."""
    items = [item for cell in cells for item in cell.items]
    found = []
    for what, fact in _FACTS.items():
        found += _difference(what, fact, items)
    return [*found, *_flattered(items)]


def _difference(what: str, fact: Fact, items: Sequence[Item]) -> list[str]:
    known = [(item.table.name, value) for item in items if (value := fact(item))]
    other = next(((name, value) for name, value in known if value != known[0][1]), None)
    if other is None:
        return []
    return [f"different {what}: {known[0][1]} ({known[0][0]}), {other[1]} ({other[0]})"]


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
    if not item.run or not item.config or not _is_same_folder(item.config["data.path"], item.summary.get("data")):
        return []
    trained = set(read_json(item.run.split).get("train", ()))
    return sorted(trained & set(item.table.values("volume")))


def _is_same_folder(a: str, b: Any) -> bool:
    return isinstance(b, str) and Path(a).resolve() == Path(b).resolve()


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
    """Of its training, such as `200 steps x 4 slices`; empty where it is not known."""
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
