"""The table of an evaluation: one row per volume and mask draw; and tables of others, which may say less."""

import csv
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mrirecon.errors import InputError
from mrirecon.files import read_table, replacing
from mrirecon.tables.metrics import METRICS, OBJECT_MASK, OBJECT_SIZE, in_files

Key = TypeVar("Key", bound=Hashable)
ZERO_FILLED = "zf_"  # before the names of the zero-filled image's scores
UNDECLARED = "undeclared"  # a mask or an acceleration of which foreign images say nothing


@dataclass(frozen=True)
class VolumeResult:
    """Scores of one volume under one mask, with what a reader needs to judge them; a row of volumes.csv.

    Of foreign images (`mrirecon score`) accelerations, zero-filled scores and seconds may be NaN: not known. Scores can
    also be read as attributes named as the columns of the table (`row.ssim`, `row.zf_ssim`).
    """

    volume: str  # path relative to the data folder
    patient: str  # empty where a table of others does not say
    origin: str  # measured, simulated-from-phantom, simulated-from-magnitude
    acquisition: str
    n_slices: int  # slices that were scored
    acceleration: float  # nominal
    acceleration_true: float  # acquired over kept columns
    mask: str  # empty where a table of others has no such column
    mask_draw: int  # 0 is fastMRI's own for the file name
    mask_id: str  # empty where the mask is not known
    protocol: str
    reconstructor: str
    checkpoint: str  # empty for methods
    scores: Mapping[str, float]  # by metric
    zero_filled: Mapping[str, float]  # of the same metrics, same mask
    seconds: float  # reconstruction alone, without reading and scoring
    object: str = ""  # what says where the object is, see `evaluation.objects`; empty where no metric asked
    n_object_windows: int | None = None  # over the scored slices; None where it is not known

    def __getattr__(self, name: str) -> float:
        """The score of a column."""
        values = vars(self).get("zero_filled" if name.startswith(ZERO_FILLED) else "scores", {})
        metric = name.removeprefix(ZERO_FILLED)
        if metric not in values:
            raise AttributeError(f"VolumeResult has no {name}; scores: {', '.join(values) or 'none'}")
        return float(values[metric])


_ABOUT: dict[str, Callable[[str], Any]] = {  # the first columns and how they are read
    **dict.fromkeys(("volume", "patient", "origin", "acquisition"), str),
    **{"n_slices": int, "acceleration": float, "acceleration_true": float},
    **{"mask": str, "mask_draw": int, "mask_id": str},
    **dict.fromkeys(("protocol", "reconstructor", "checkpoint"), str),
}


def write_results(path: Path, results: Iterable[VolumeResult]) -> None:
    """Write volumes.csv (RFC 4180, https://www.rfc-editor.org/rfc/rfc4180); floats keep all their digits.

    What came after the first version of the table stands at its end, so that readers by position go on working.
    """
    rows = [_row(result) for result in results]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]) if rows else [*_ABOUT, "seconds", "object", OBJECT_SIZE])
        writer.writeheader()
        writer.writerows(rows)


def _row(result: VolumeResult) -> dict[str, Any]:
    appended = [name for name in in_files(result.scores) if METRICS[name].appended]
    first = [name for name in in_files(result.scores) if name not in appended]
    row = {name: getattr(result, name) for name in _ABOUT}
    row |= {name: result.scores[name] for name in first}
    row |= {ZERO_FILLED + name: result.zero_filled[name] for name in first} | {"seconds": result.seconds}
    row |= {name: result.scores[name] for name in appended}
    row |= {ZERO_FILLED + name: result.zero_filled[name] for name in appended}
    return row | {"object": result.object, OBJECT_SIZE: result.n_object_windows}


def read_results(path: Path) -> list[VolumeResult]:
    """Read volumes.csv, with the metrics that it has: one of before a metric came is as good as ever.

    Raises:
        InputError: It cannot be read, has no metric, or a column is missing or not a number.
    """
    try:
        columns, rows = read_table(path)
        metrics = [name for name in METRICS if name in columns]
        needed = [*_ABOUT, *(ZERO_FILLED + name for name in metrics), "seconds"]
        missing = [name for name in needed if name not in columns] + ([] if metrics else [" or ".join(METRICS)])
        if missing:
            raise KeyError(missing[0])
        return [
            VolumeResult(
                **{name: kind(row[name]) for name, kind in _ABOUT.items()},
                scores={name: float(row[name]) for name in metrics},
                zero_filled={name: float(row[ZERO_FILLED + name]) for name in metrics},
                seconds=float(row["seconds"]),
                object=row.get("object") or "",
                n_object_windows=int(size) if (size := row.get(OBJECT_SIZE)) else None,
            )
            for row in rows
        ]
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is not a table of `mrirecon evaluate` ({error.strerror}); evaluate again") from None
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not a table of `mrirecon evaluate` ({error}); evaluate again") from None


class Fault(NamedTuple):
    """A row of a table that cannot be used."""

    volume: str
    row: int  # as a spreadsheet numbers it: the first volume is in row 2
    why: str


@dataclass
class ScoreTable:
    """The scores of one method and seed in a table that may be anybody's."""

    method: str  # as its column says; empty: there is none
    seed: int | None  # as its column says; None: there is none
    rows: list[VolumeResult] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_tables(path: Path, name: str) -> list[ScoreTable]:
    """Read a table of anybody's scores: `volume` and a metric are enough, all other columns of volumes.csv optional.

    Columns `method` and `seed` split it. What is not known is empty, 0 (slices) or NaN (accelerations, zero-filled
    scores). A row that cannot be used is a fault of its volume, not of the table. Numbers may have a decimal comma, and
    columns capital letters.

    Args:
        path: Of the table.
        name: The reconstructor's, where the table does not say.

    Raises:
        InputError: No table, no column of volumes or scores, no row that can be used, or scores on another scale.
    """
    try:
        columns, rows = read_table(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} is not a table of `mrirecon evaluate` ({error.strerror}); evaluate again") from None
    known = {"volume", "method", "seed", "seconds", "object", OBJECT_SIZE, *_ABOUT}
    known |= {prefix + metric for metric in METRICS for prefix in ("", ZERO_FILLED)}
    spelt = {c: c.strip().lower() for c in columns if c not in known and c.strip().lower() in known - set(columns)}
    names = {spelt.get(column, column) for column in columns}
    metrics = [metric for metric in METRICS if metric in names]
    if "volume" not in names or not metrics:
        lacking = f"a score ({', '.join(METRICS)})" if "volume" in names else "'volume'"
        raise InputError(
            f"{path} is not a table of `mrirecon evaluate` or of anybody's scores: it has no column {lacking}, but "
            f"{', '.join(map(repr, columns[:8])) or 'none at all'}"
        )
    tables: dict[tuple[str, int | None], ScoreTable] = {}
    for number, raw in enumerate(rows, start=2):
        row = {spelt.get(column, column): value for column, value in raw.items()}
        if not row["volume"]:
            raise InputError(f"{path}: row {number} names no volume; fill it in, or delete the row")
        try:
            key = (row["method"] or "" if "method" in names else "", int(row["seed"]) if "seed" in names else None)
        except (TypeError, ValueError):
            raise InputError(f"{path}: row {number} has the seed {row['seed']!r}; give a whole number") from None
        if "method" in names and not key[0]:
            raise InputError(f"{path}: row {number} names no method; fill it in, or leave the column out")
        table = tables.setdefault(key, ScoreTable(*key))
        try:
            table.rows.append(_foreign_result(row, metrics, key[0] or name))
        except ValueError as error:
            table.faults.append(Fault(row["volume"], number, str(error)))
    for table in tables.values():
        _require_rows(path, table)
    return list(tables.values())


def _require_rows(path: Path, table: ScoreTable) -> None:
    percent = [fault for fault in table.faults if _PERCENT in fault.why]
    if len(percent) > len(table.rows):
        raise InputError(f"{path}: {percent[0].volume} (row {percent[0].row}): {percent[0].why}")
    if table.faults and not table.rows:
        volume, row, why = table.faults[0]
        raise InputError(f"{path}: no row can be used; {volume} (row {row}): {why}")


_PERCENT = "divide by 100?"
_ROUNDING = 1e-6  # by which a score of equal images may be beyond a perfect one
_UNKNOWN: dict[str, Any] = {"n_slices": 0, "acceleration": math.nan, "acceleration_true": math.nan, "mask_draw": 0}


def _foreign_result(row: dict[str, str], metrics: Iterable[str], reconstructor: str) -> VolumeResult:
    """One row of anybody's table.

    Raises:
        ValueError: It cannot be used; the message says why.
    """
    if None in row:  # csv's key of what has no column
        raise ValueError("it has more values than the table has columns")
    about: dict[str, Any] = {}
    for name, kind in _ABOUT.items():
        text = row.get(name) or ""
        about[name] = text if kind is str else _UNKNOWN[name] if not text else _number(name, text)
        if kind is int:
            about[name] = _whole(name, about[name])
    about["reconstructor"] = about["reconstructor"] or reconstructor
    zero_filled = {metric: row.get(ZERO_FILLED + metric) or "nan" for metric in metrics}
    size = row.get(OBJECT_SIZE)
    return VolumeResult(
        **about,
        scores={metric: _score(metric, metric, row[metric] or "") for metric in metrics},
        zero_filled={metric: _score(metric, ZERO_FILLED + metric, text) for metric, text in zero_filled.items()},
        seconds=_number("seconds", row.get("seconds") or "nan"),
        object=row.get("object") or "",
        n_object_windows=_whole(OBJECT_SIZE, _number(OBJECT_SIZE, size)) if size else None,
    )


def _whole(column: str, value: float) -> int:
    if not float(value).is_integer():
        raise ValueError(f"{column} is {value:g}, which is no whole number")
    return int(value)


def _number(column: str, text: str) -> float:
    plain = text.strip()
    try:
        return float(plain.replace(",", ".") if plain.count(",") == 1 and "." not in plain else plain)
    except ValueError:
        raise ValueError(f"{column} is {text!r}, which is no number" if text else f"it has no {column}") from None


def _score(metric: str, column: str, text: str) -> float:
    value, entry = _number(column, text), METRICS[metric]
    if math.isnan(value):
        if column == metric and OBJECT_MASK not in entry.needs:  # a volume without object has no score of one
            raise ValueError(f"{column} is NaN")
        return value
    sign = 1 if entry.higher_is_better else -1
    if math.isinf(value) and value != entry.perfect:
        raise ValueError(f"{column} is {value:g}")
    if entry.perfect == 1 and 1 + _ROUNDING < value <= 100:
        raise ValueError(f"{column} is {value:g}, and no SSIM is above 1; {_PERCENT}")
    if sign * value > sign * entry.perfect + _ROUNDING:
        raise ValueError(f"{column} is {value:g}, and none is better than {entry.perfect:g}")
    if entry.worst is not None and sign * value < sign * entry.worst - _ROUNDING:
        raise ValueError(f"{column} is {value:g}, and none is worse than {entry.worst:g}")
    return value


def group_by(results: Iterable[VolumeResult], key: Callable[[VolumeResult], Key]) -> dict[Key, list[VolumeResult]]:
    """Rows by `key`, groups and rows in the order they come."""
    groups: dict[Key, list[VolumeResult]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return groups


def by_volume(results: Iterable[VolumeResult]) -> dict[tuple[str, float], list[VolumeResult]]:
    """The mask draws of each volume at each nominal acceleration (`math.nan` itself where it is undeclared)."""
    return group_by(results, lambda r: (r.volume, math.nan if math.isnan(r.acceleration) else r.acceleration))


def acceleration_label(acceleration: float) -> str:
    """The nominal acceleration in words: `4`, or undeclared for NaN."""
    return UNDECLARED if math.isnan(acceleration) else f"{acceleration:.3g}"
