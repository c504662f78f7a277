"""Turn the words of `mrirecon compare` into tables, and group trainings that differ in their seed alone into cells.

A word names a run folder, the folder of an evaluation, a volumes.csv file or any other CSV table of scores, which may
hold several methods and seeds.
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
from mrirecon.evaluation.pairing import Table
from mrirecon.evaluation.results import ScoreTable, read_tables
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
    method: str = ""  # by --group or the column of its table; empty: neither says
    seed: int | None = None  # by its configuration, the column of its table or --group; None: not known
    is_numbered: bool = False  # the seed is its place among the tables of --group, which name none

    @property
    def kind(self) -> str:
        """TRAINING (also one whose run folder is elsewhere), METHOD or FOREIGN."""
        if self.seed is not None:
            return TRAINING
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
    """The tables of each word, and those of `--group` after them.

    Raises:
        InputError: A word without a table, one twice, several evaluations of which none was chosen, or a single table.
    """
    groups = _groups(config.group)
    words = [*words, *(word for found in groups.values() for word in found)]
    candidates = {word: _candidates(word) for word in words}
    if len(candidates) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise InputError(f"{twice} is given twice; give each once")
    chosen = _choose({word: _filtered(word, found, config) for word, found in candidates.items()})
    places: dict[Path, str] = {}
    for word, place in chosen.items():
        if (other := places.setdefault(place.resolve(), word)) != word:
            raise InputError(f"{word} and {other} are one table; give each once")
    of_word = {word: _items(word, place) for word, place in chosen.items()}
    for method, found in groups.items():
        of_word |= _grouped(method, {word: of_word[word] for word in found})
    items = [item for found in of_word.values() for item in found]
    if len(items) < 2:
        raise InputError(f"compare takes two or more runs or tables, got {len(items)}; see mrirecon compare --help")
    return items


def _groups(wanted: Sequence[str]) -> dict[str, list[str]]:
    """The words of each `--group NAME=GLOB`."""
    groups: dict[str, list[str]] = {}
    for text in wanted:
        name, _, pattern = text.partition("=")
        if not name or not pattern:
            raise InputError(f"--group {text}; give the name of a method and where its seeds are: adam=runs/adam-s*")
        if name in groups:
            raise InputError(f"--group {name} is given twice; give one pattern that all of its tables have")
        top = Path(Path(pattern).anchor)
        groups[name] = sorted(map(str, top.glob(str(Path(pattern).relative_to(top)))))
        if not groups[name]:
            raise InputError(f"--group {text}: nothing has such a name")
    return groups


def _grouped(method: str, found: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
    """The items of a group with its name; seeds that no table tells are the number in which their names differ."""
    numbers = [list(map(int, re.findall(r"\d+", word))) for word in found]
    same_length = len(set(map(len, numbers))) == 1
    differing = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1] if same_length else []
    are_told = len(differing) == 1 and len(set(differing[0])) == len(found)
    seeds = differing[0] if are_told else range(len(found))
    return {
        word: [
            replace(item, name=method, method=method)
            if item.seed is not None
            else replace(item, name=method, method=method, seed=seed, is_numbered=not are_told)
            for item in items
        ]
        for seed, (word, items) in zip(seeds, found.items(), strict=True)
    }


def _candidates(word: str) -> list[Path]:
    """The folders of the tables that a word may mean, or a table of another name."""
    path = Path(word)
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise InputError(f"{path} is no {_TABLE} or other .csv table; give one, its folder, or a run folder")
        return [path.parent if path.name == _TABLE else path]
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


def _items(word: str, place: Path) -> list[Item]:
    """Return what a table holds: one thing, or as many as its columns `method` and `seed` tell apart."""
    if place.is_file():  # of another name than volumes.csv, so of others
        path, name, summary, folder = place, place.stem, {}, place.parent
    else:
        path, name, summary, folder = place / _TABLE, place.resolve().name, read_json(place / _SUMMARY), place
    tables = read_tables(path, name)
    if not tables:
        raise InputError(f"{path} has no rows; evaluate again")
    items = [_item(word, path, folder, summary, found) for found in tables]
    if len(items) == 1:
        return items
    parts = [(f"{t.method} " * bool(t.method) + f"seed {t.seed}" * (t.seed is not None)).strip() for t in tables]
    return [
        replace(item, table=replace(item.table, name=f"{word} ({part})"))
        for item, part in zip(items, parts, strict=True)
    ]


def _item(word: str, path: Path, folder: Path, summary: Mapping[str, Any], found: ScoreTable) -> Item:
    rows = found.rows
    owner = folder.resolve().parent.parent if folder.resolve().parent.name == "evaluation" else None
    run = RunFolder(owner) if owner and RunFolder(owner).config.is_file() and rows[0].checkpoint else None
    split = "" if "predictions" in summary else str(summary.get("split", ""))
    table = Table(word, rows, split, _slices(summary), found.faults, str(path))
    trained = None if run is None else flatten(load(TrainConfig, run.config))
    name = owner.name if owner else found.method or rows[0].reconstructor
    seed = int(trained["seed"]) if trained and found.seed is None else found.seed
    return Item(name, folder, table, summary, run, trained, found.method, seed)


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
    if item.method:
        return item.method
    if item.config is None:
        return i if item.seed is None else (item.table.file, item.name)  # a table with a column of seeds
    return repr(sorted(decisive_keys(item.config).items())), item.table.rows[0].checkpoint, item.summary.get("bn_stats")


def _cell(items: Sequence[Item], members: Sequence[int]) -> Cell:
    rows = sorted(members, key=lambda i: _seed(items[i]))
    chosen = tuple(items[i] for i in rows)
    for a, b in pairwise(chosen):
        if _seed(a) == _seed(b):
            if a.method and a.seed is None:
                raise InputError(
                    f"{a.table.name} and {b.table.name} are both of the method {a.method}, and nothing says of which "
                    f"seeds; add a column seed, or --group {a.method}=GLOB"
                )
            raise InputError(
                f"{a.table.name} and {b.table.name} are one configuration with one seed ({_seed(a)}), "
                "which says nothing about the spread; give one of them"
            )
    return Cell(_shared_name(chosen), chosen, tuple(rows), tuple(i.seed for i in chosen if i.seed is not None))


def _seed(item: Item) -> int:
    return 0 if item.seed is None else item.seed


def _shared_name(items: Sequence[Item]) -> str:
    """`adam` of adam-s0 and adam-s1, or of adam/0 and adam/1."""
    if len(items) == 1 or items[0].method:
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
