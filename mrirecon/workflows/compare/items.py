"""Turn the words of `mrirecon compare` into tables, and group trainings that differ in their seed alone into cells.

A word names a run folder, the folder of an evaluation, or a volumes.csv file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from mrirecon.config import CompareConfig, TrainConfig
from mrirecon.configfile import flatten, load
from mrirecon.errors import InputError, did_you_mean
from mrirecon.evaluation.comparable import Table
from mrirecon.evaluation.results import read_results
from mrirecon.report.run_files import read_json, read_rows
from mrirecon.runs import RunFolder

_TABLE, _SUMMARY = "volumes.csv", "summary.json"
_ADVICE = "tables come from mrirecon evaluate and mrirecon score"
_CHOOSE = "choose with --evaluation NAME, --split or --acceleration"
TRAINING, METHOD, FOREIGN = "training", "method", "foreign images"


@dataclass(frozen=True)
class Item:
    """One evaluation of one training, method or set of foreign images, and what is known of it."""

    name: str  # that of its run folder, else of the reconstructor
    path: Path  # folder of the table
    table: Table
    summary: Mapping[str, Any]  # empty where there is none
    run: RunFolder | None = None  # of a training whose configuration is there
    config: Mapping[str, Any] | None = None  # its dotted keys

    @property
    def kind(self) -> str:
        """TRAINING (also one whose run folder is elsewhere), METHOD or FOREIGN."""
        if "predictions" in self.summary or not any(row.mask_id for row in self.table.rows):
            return FOREIGN
        return TRAINING if self.table.rows[0].checkpoint else METHOD

    def provenance(self) -> dict[str, Any]:
        """Read the provenance of its training; empty where it is not known."""
        return {} if self.run is None else read_json(self.run.provenance)

    def n_steps(self) -> int:
        """Optimizer steps of its training; 0 where they are not known."""
        rows = [] if self.run is None else read_rows(self.run.curves)
        return max((int(float(row["step"])) for row in rows if row.get("step")), default=0)


def find_items(words: Sequence[str], config: CompareConfig) -> list[Item]:
    """The table of each word.

    Raises:
        InputError: A word without a table, one twice, or several evaluations of which none was chosen.
    """
    candidates = {word: _candidates(word) for word in words}
    if len(candidates) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise InputError(f"{twice} is given twice; give each once")
    chosen = _choose({word: _filtered(word, found, config) for word, found in candidates.items()})
    items = [_item(word, folder) for word, folder in chosen.items()]
    for i, item in enumerate(items):
        for other in items[:i]:
            if other.path.resolve() == item.path.resolve():
                raise InputError(f"{item.table.name} and {other.table.name} are one table; give each once")
    return items


def _candidates(word: str) -> list[Path]:
    """The folders of the tables that a word may mean."""
    path = Path(word)
    if path.is_file():
        if path.name != _TABLE:
            raise InputError(f"{path} is no {_TABLE}; give that file, its folder, or a run folder")
        return [path.parent]
    if not path.is_dir():
        hint = (
            did_you_mean(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
            or f"; {_ADVICE}"
        )
        raise InputError(f"no run folder or table at {path}{hint}")
    if (path / _TABLE).is_file():
        return [path]
    found = [p.parent for pattern in ("evaluation/*", "*") for p in sorted(path.glob(f"{pattern}/{_TABLE}"))]
    found = [folder for folder in found if not folder.name.startswith(".")]
    if not found and RunFolder(path).config.is_file():
        command = f"mrirecon evaluate {path} --split test"
        raise InputError(f"{path} has not been evaluated; {command} (or the split of the others)")
    if not found:
        raise InputError(f"{path} holds no {_TABLE} and no evaluation/*/{_TABLE}; {_ADVICE}")
    return found


def _filtered(word: str, folders: list[Path], config: CompareConfig) -> list[Path]:
    """Return the evaluations that `--evaluation`, `--split` and `--acceleration` leave of several."""
    if len(folders) == 1:
        return folders
    kept = [folder for folder in folders if _is_wanted(folder, config)]
    if not kept:
        raise InputError(f"{word} has no such evaluation, but {_names(folders)}; {_CHOOSE}")
    return kept


def _is_wanted(folder: Path, config: CompareConfig) -> bool:
    summary = read_json(folder / _SUMMARY)
    return (
        config.evaluation in ("", folder.name)
        and config.split in ("", summary.get("split"))
        and config.acceleration in (0, summary.get("acceleration"))
    )


def _choose(candidates: Mapping[str, list[Path]]) -> dict[str, Path]:
    """One table for each word: its only one, else the one whose folder's name all words share."""
    if all(len(folders) == 1 for folders in candidates.values()):
        return {word: folders[0] for word, folders in candidates.items()}
    common = _common(candidates.values())
    if not common:  # foreign tables and single evaluations may go by other names
        common = _common([folders for folders in candidates.values() if len(folders) > 1])
    if not common:
        listed = "; ".join(f"{word}: {_names(folders)}" for word, folders in candidates.items())
        raise InputError(f"no evaluation that all of them have ({listed}); evaluate all on the same data and masks")
    if len(common) > 1:
        raise InputError(f"several evaluations that all of them have ({', '.join(sorted(common))}); {_CHOOSE}")
    (name,) = common
    return {word: next((f for f in folders if f.name == name), folders[0]) for word, folders in candidates.items()}


def _common(candidates: Any) -> set[str]:
    return set.intersection(*({folder.name for folder in folders} for folders in candidates))


def _names(folders: Sequence[Path]) -> str:
    return ", ".join(folder.name for folder in folders)


def _item(word: str, folder: Path) -> Item:
    summary, rows = read_json(folder / _SUMMARY), read_results(folder / _TABLE)
    if not rows:
        raise InputError(f"{folder / _TABLE} has no rows; evaluate again")
    owner = folder.resolve().parent.parent if folder.resolve().parent.name == "evaluation" else None
    run = RunFolder(owner) if owner and RunFolder(owner).config.is_file() and rows[0].checkpoint else None
    split = "" if "predictions" in summary else str(summary.get("split", ""))
    table = Table(word, rows, split, _slices(summary))
    trained = None if run is None else flatten(load(TrainConfig, run.config))
    return Item(owner.name if owner else rows[0].reconstructor, folder, table, summary, run, trained)


def _slices(summary: Mapping[str, Any]) -> str:
    """In words what the summary says of the scored slices; empty where it says nothing."""
    if "slices" not in summary:
        return ""
    chosen = summary["slices"]
    return f"{chosen[0]} to {chosen[-1]}" if chosen else "all"


# what may differ between runs of one cell: where things are, how they are computed, what is kept, and the seed
_APART = (
    *("data.path", "data.workers", "data.check", "threads", "device", "logger", "output", "overwrite"),
    *("checkpoint_every", "checkpoints", "seed"),
)
_NUMBER = re.compile(r"[-_. ]*(seed|s)?[-_.]?\d+$")  # of a seed or a time at the end of a run's name


@dataclass(frozen=True)
class Cell:
    """One thing that is compared: trainings of one configuration, a method, or foreign images."""

    name: str
    items: tuple[Item, ...]  # by seed
    rows: tuple[int, ...]  # their places among all items
    seeds: tuple[int, ...]  # of the trainings; empty where it is not known
    settings: Mapping[str, Any] = field(default_factory=dict)  # keys of the training that other cells have differently


def group_by_seed(items: Sequence[Item], names: Sequence[str] = ()) -> list[Cell]:
    """The cells, in the order in which they first come.

    Args:
        items: What is compared.
        names: Of the cells, in that order; empty: of their run folders.

    Raises:
        InputError: One configuration twice with one seed, a single cell, or names that do not fit.
    """
    groups: dict[Any, list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(_identity(i, item), []).append(i)
    cells = [_cell(items, members) for members in groups.values()]
    if len(cells) < 2:
        raise InputError(
            f"{', '.join(item.table.name for item in items)} differ in their seed alone, so there is nothing to "
            "compare them with; add runs of another configuration"
        )
    return _with_settings(_named(cells, names))


def decisive_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dotted keys of a training in which the runs of one cell do not differ."""
    return {key: value for key, value in config.items() if key not in _APART}


def _identity(i: int, item: Item) -> Any:
    """Equal for what is one cell."""
    if item.config is None:
        return i
    return repr(sorted(decisive_keys(item.config).items())), item.table.rows[0].checkpoint, item.summary.get("bn_stats")


def _cell(items: Sequence[Item], members: Sequence[int]) -> Cell:
    rows = sorted(members, key=lambda i: _seed(items[i]))
    chosen = tuple(items[i] for i in rows)
    for a, b in pairwise(chosen):
        if _seed(a) == _seed(b):
            raise InputError(
                f"{a.table.name} and {b.table.name} are one configuration with one seed ({_seed(a)}), "
                "which says nothing about the spread; give one of them"
            )
    return Cell(_shared_name(chosen), chosen, tuple(rows), tuple(_seed(item) for item in chosen if item.config))


def _seed(item: Item) -> int:
    return int(item.config["seed"]) if item.config else 0


def _shared_name(items: Sequence[Item]) -> str:
    """`adam` of adam-s0 and adam-s1, or of adam/0 and adam/1."""
    if len(items) == 1:
        return items[0].name
    names = {_NUMBER.sub("", item.name) for item in items}
    if names == {""}:
        names = {item.run.path.parent.name for item in items if item.run}
    return names.pop() if len(names) == 1 else items[0].name


def _named(cells: Sequence[Cell], wanted: Sequence[str]) -> list[Cell]:
    if wanted and (len(wanted) != len(cells) or len(set(wanted)) < len(wanted)):
        found = ", ".join(cell.name for cell in cells)
        raise InputError(f"--names {' '.join(wanted)}; give {len(cells)} different names, for {found} in this order")
    names = list(wanted) or [cell.name for cell in cells]
    if len(set(names)) < len(names):  # of equal names none tells which: what was typed does
        names = [cell.items[0].table.name for cell in cells]
    return [replace(cell, name=name) for cell, name in zip(cells, names, strict=True)]


def _with_settings(cells: Sequence[Cell]) -> list[Cell]:
    configs = [cell.items[0].config for cell in cells]
    trained = [config for config in configs if config]
    keys = [key for key in (trained[0] if trained else ()) if key not in _APART]
    differing = [key for key in keys if any(config[key] != trained[0][key] for config in trained)]
    return [
        replace(cell, settings={key: config[key] for key in differing} if config else {})
        for cell, config in zip(cells, configs, strict=True)
    ]
