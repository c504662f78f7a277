"""The table of an evaluation: one row per volume and mask draw."""

import csv
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mrirecon.errors import InputError
from mrirecon.files import read_table, replacing
from mrirecon.tables.metrics import METRICS, OBJECT_SIZE, in_files

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
    patient: str
    origin: str  # measured, simulated-from-phantom, simulated-from-magnitude
    acquisition: str
    n_slices: int  # slices that were scored
    acceleration: float  # nominal
    acceleration_true: float  # acquired over kept columns
    mask: str
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
        return [_result(row, metrics) for row in rows]
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is not a table of `mrirecon evaluate` ({error.strerror}); evaluate again") from None
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not a table of `mrirecon evaluate` ({error}); evaluate again") from None


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


def _result(row: dict[str, str], metrics: Iterable[str]) -> VolumeResult:
    return VolumeResult(
        **{name: kind(row[name]) for name, kind in _ABOUT.items()},
        scores={name: float(row[name]) for name in metrics},
        zero_filled={name: float(row[ZERO_FILLED + name]) for name in metrics},
        seconds=float(row["seconds"]),
        object=row.get("object") or "",
        n_object_windows=int(size) if (size := row.get(OBJECT_SIZE)) else None,
    )
