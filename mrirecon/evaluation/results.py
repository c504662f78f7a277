"""The table of an evaluation: one row per volume and mask draw."""

import csv
import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar, get_type_hints

from mrirecon.errors import InputError
from mrirecon.files import read_table, replacing

Key = TypeVar("Key", bound=Hashable)
UNDECLARED = "undeclared"  # a mask or an acceleration of which foreign images say nothing


@dataclass(frozen=True)
class VolumeResult:
    """Scores of one volume under one mask, with what a reader needs to judge them; a row of volumes.csv.

    Of foreign images (`mrirecon score`) accelerations, zero-filled scores and seconds may be NaN: not known.
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
    ssim: float
    psnr: float  # dB
    nmse: float
    zf_ssim: float  # zero-filled, same mask
    zf_psnr: float
    zf_nmse: float
    seconds: float  # reconstruction alone, without reading and scoring


def write_results(path: Path, results: Iterable[VolumeResult]) -> None:
    """Write volumes.csv; floats keep all their digits."""
    names = [field.name for field in fields(VolumeResult)]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows(asdict(result) for result in results)


def read_results(path: Path) -> list[VolumeResult]:
    """Read volumes.csv.

    Raises:
        InputError: It cannot be read, or a column is missing or not a number.
    """
    try:
        columns, rows = read_table(path)
        missing = [f.name for f in fields(VolumeResult) if f.name not in columns]
        if missing:
            raise KeyError(missing[0])
        return [_result(row) for row in rows]
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


def _result(row: dict[str, str]) -> VolumeResult:
    return VolumeResult(**{name: kind(row[name]) for name, kind in get_type_hints(VolumeResult).items()})
