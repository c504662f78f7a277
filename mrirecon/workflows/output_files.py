"""The files that `mrirecon reconstruct` leaves: what they say of themselves, which are there, how they are written."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from mrirecon.data.layout import plain_value
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.report.montage import draw_montage
from mrirecon.workflows.prediction_file import write_prediction

FORMATS = ("h5", "png")
Facts = dict[str, Any]
_SAME = (
    "weights_sha256",
    "source",
    "source_bytes",
    "source_sha256",
    "bn_stats",
    "precision",
)  # what decides the images


@dataclass(frozen=True)
class OutputFiles:
    """Where the reconstructions of one call go; each file carries `facts`, by which it is known again."""

    folder: Path
    formats: Sequence[str]
    facts: Callable[[Volume], Facts]

    def missing(self, volumes: Sequence[Volume], overwrite: bool) -> list[Volume]:
        """The volumes of which a file is not there yet, made from the same by the same.

        Raises:
            InputError: Something else is in the way, and may not be replaced.
        """
        in_the_way = [(path, why) for volume in volumes for path, why in self._others(volume)]
        for path, why in in_the_way:
            if path.is_dir() or _holds_kspace(path):
                raise InputError(f"{path} {why}, which is never replaced; choose another --output")
        if in_the_way and not overwrite:
            path, why = in_the_way[0]
            more = f" ({len(in_the_way)} such files)" if len(in_the_way) > 1 else ""
            raise InputError(f"{path} is there already, {why}{more}; add --overwrite or choose another --output")
        return [volume for volume in volumes if self._missing(volume)]

    def write(self, volume: Volume, images: np.ndarray) -> None:
        """Write what is missing of a volume, each file whole or not at all.

        Raises:
            WorkFailedError: Images that are not finite, or a file that cannot be written.
        """
        facts = self.facts(volume)
        bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))
        if len(bad):
            raise WorkFailedError(
                f"{facts['reconstructor']} gives NaN or infinity in slice {bad[0]} of {volume.name}; "
                "what is finished is kept (--precision fp32, or another checkpoint?)"
            )
        for path in self._missing(volume):
            try:
                _WRITERS[path.suffix[1:]](path, images, facts)
            except OSError as error:
                raise WorkFailedError(
                    f"{path} cannot be written: {error.strerror or error}; what is finished is kept: "
                    "make room, and go on with the same command"
                ) from error

    def _paths(self, volume: Volume) -> list[Path]:
        return [self.folder / Path(volume.name).with_suffix(f".{ending}") for ending in self.formats]

    def _missing(self, volume: Volume) -> list[Path]:
        facts = self.facts(volume)
        return [path for path in self._paths(volume) if not path.is_file() or _difference(_read_facts(path), facts)]

    def _others(self, volume: Volume) -> list[tuple[Path, str]]:
        """What stands where files of this volume shall go and is none, and why it is none."""
        facts = self.facts(volume)
        there = [(path, _what_it_is(path, facts)) for path in self._paths(volume) if os.path.lexists(path)]
        return [(path, why) for path, why in there if why]


def require_writable(folder: Path) -> None:
    """Raise an InputError unless `folder` is a folder to write to, or can be made."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{place} is not a folder; choose another --output")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"no permission to write to {place}; choose another --output")


def _what_it_is(path: Path, facts: Facts) -> str:
    if path.is_dir():
        return "is a folder"
    if _holds_kspace(path):
        return "holds k-space"
    found = _read_facts(path)
    if _SAME[0] not in found:
        return "not made by mrirecon reconstruct"
    return _difference(found, facts)


def _difference(found: Mapping[str, str], facts: Facts) -> str:
    """The first thing in which a file's facts say otherwise; empty: none."""
    for key in _deciding(facts):
        theirs, ours = found.get(key), str(facts[key])
        if theirs != ours:
            return f"made with {key} {_short(theirs or 'none')}, now {_short(ours or 'none')}"
    return ""


def _deciding(facts: Facts) -> list[str]:
    """Methods have no weights but a name; statistics of the batch depend on its size."""
    keys = list(_SAME)
    if not facts["weights_sha256"]:
        keys.append("reconstructor")
    if facts["bn_stats"] == "batch":
        keys.append("batch_size")
    return keys


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value


def _read_facts(path: Path) -> dict[str, str]:
    """What a file says of itself; nothing where it is damaged or something else."""
    try:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                return {str(key): str(value) for key, value in picture.info.items()}
        with h5py.File(path, "r") as file:
            return {key: str(plain_value(file.attrs[key])) for key in file.attrs}
    except Exception:  # a damaged file makes h5py and Pillow raise anything
        return {}


def _holds_kspace(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return "kspace" in file
    except (Exception, SystemError):
        return False


def _write_h5(path: Path, images: np.ndarray, facts: Facts) -> None:
    write_prediction(path, images, facts)


def _write_png(path: Path, images: np.ndarray, facts: Facts) -> None:
    n, height, width = images.shape
    slices = "1 slice" if n == 1 else f"{n} slices"
    draw_montage(path, images, f"{facts['source']}   {facts['reconstructor']}   {slices}, {height} x {width}", facts)


_WRITERS: dict[str, Callable[[Path, np.ndarray, Facts], None]] = {"h5": _write_h5, "png": _write_png}
