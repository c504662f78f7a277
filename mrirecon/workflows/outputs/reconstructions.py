"""Write the files that `mrirecon reconstruct` leaves, and know those again that are there: what they say of themselves
decides which are missing.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import mrirecon
from mrirecon.data.hdf5.description import plain_value, read_attributes
from mrirecon.data.hdf5.opening import open_to_read
from mrirecon.data.hdf5.quarantine import Alive, Found, Job, examine
from mrirecon.data.hdf5.write import new_hdf5
from mrirecon.data.mask_choice import mask_id
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, WorkFailedError, explained
from mrirecon.physics import Mask
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.workflows.setup.source_files import samples_sha256


def write_prediction(
    path: Path, images: np.ndarray, attrs: Mapping[str, Any] | None = None, sd: np.ndarray | None = None
) -> None:
    """Write images `(slices, height, width)` as the data set `reconstruction`, float32, whole or not at all.

    Equals the layout of fastMRI's `save_reconstructions`, which its evaluation reads. The per-pixel deviations `sd`
    `(slices, height, width)` of several, where there are any, are beside it as `reconstruction_sd`.

    Raises:
        OSError: They cannot be written there.
    """
    with new_hdf5(path) as file:
        file.create_dataset("reconstruction", data=images.astype(np.float32, copy=False))
        if sd is not None:
            file.create_dataset("reconstruction_sd", data=sd.astype(np.float32, copy=False))
        file.attrs.update(attrs or {})


class FileThere(NamedTuple):
    """A file as it describes itself; nothing where it is damaged or something else."""

    facts: dict[str, str]
    has_kspace: bool


def describe_files(paths: Iterable[Path]) -> dict[Path, FileThere]:
    """The `.h5` and `.png` files among `paths` that exist, each read in quarantine."""
    there = [path for path in paths if path.is_file()]
    found = examine([Job(path.name, partial(_describe, path)) for path in there])
    return {
        path: FileThere({}, False) if isinstance(answer, InputError) else FileThere(**answer)
        for path, answer in zip(there, found, strict=True)
    }


def _describe(path: Path, _alive: Alive) -> Found:
    facts, has_kspace = {}, False
    try:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                facts = {str(key): str(plain_value(value)) for key, value in picture.info.items()}
        else:
            with open_to_read(path) as file:
                has_kspace = "kspace" in list(file)  # `in file` would follow a link
                facts = {key: str(value) for key, value in read_attributes(file).items()}
    except (Exception, SystemError):  # a damaged file makes h5py and Pillow raise anything
        facts = {}
    return {"facts": facts, "has_kspace": has_kspace}


FORMATS = ("h5", "png")
Facts = dict[str, Any]
There = Mapping[Path, FileThere]
_SAME = (
    "weights_sha256",
    "options",
    "source",
    "source_bytes",
    "source_sha256",
    "bn_stats",
    "precision",
    "mask_draw",  # that, and slices, only images of `evaluate` have: they are none of `reconstruct`
    "slices",
)  # what decides the images


@dataclass(frozen=True)
class OutputFiles:
    """The files of one call's reconstructions; each carries `facts`, by which it is known again.

    `sampling` are further facts that it carries, of k-space that was checked; they are asked for when it is written.
    """

    folder: Path
    formats: Sequence[str]
    facts: Callable[[Volume], Facts]
    sampling: Callable[[Volume], Facts] = lambda _volume: {}

    def missing(self, volumes: Sequence[Volume], overwrite: bool) -> list[Volume]:
        """The volumes of which a file is not there yet, made from the same by the same.

        Raises:
            InputError: Something else is in the way, and may not be replaced.
        """
        there = describe_files(path for volume in volumes for path in self._paths(volume))
        in_the_way = [(path, why) for volume in volumes for path, why in self._others(volume, there)]
        for path, why in in_the_way:
            if path.is_dir() or (path in there and there[path].has_kspace):
                raise InputError(f"{path} {why}, which is never replaced; choose another --output")
        if in_the_way and not overwrite:
            path, why = in_the_way[0]
            more = f" ({len(in_the_way)} such files)" if len(in_the_way) > 1 else ""
            raise InputError(f"{path} is there already, {why}{more}; add --overwrite or choose another --output")
        return [volume for volume in volumes if self._missing(volume, there)]

    def write(self, volume: Volume, images: np.ndarray, sd: np.ndarray | None = None) -> None:
        """Write what is missing of a volume of images `(slices, h, w)`, each file whole or not at all.

        Of several reconstructions `sd` are their deviations, `(slices, h, w)`, which `.h5` files hold.

        Raises:
            WorkFailedError: The disk is full, or fails.
            OSError: A file may not be written there.
        """
        facts = self.facts(volume) | self.sampling(volume)
        for path in self._missing(volume, describe_files(self._paths(volume))):
            try:
                _WRITERS[path.suffix[1:]](path, images, facts, sd)
            except OSError as error:
                if not isinstance(explained(error), WorkFailedError):
                    raise
                raise WorkFailedError(
                    f"{path} cannot be written: {error.strerror or error}; what is finished is kept: "
                    "make room, and go on with the same command"
                ) from error

    def _paths(self, volume: Volume) -> list[Path]:
        return [self.folder / Path(volume.name).with_suffix(f".{ending}") for ending in self.formats]

    def _missing(self, volume: Volume, there: There) -> list[Path]:
        facts = self.facts(volume)
        return [p for p in self._paths(volume) if p not in there or _difference(there[p].facts, facts)]

    def _others(self, volume: Volume, there: There) -> list[tuple[Path, str]]:
        """List what is in the way of this volume's files, and what it is."""
        facts = self.facts(volume)
        reasons = [(path, _what_it_is(path, there, facts)) for path in self._paths(volume) if os.path.lexists(path)]
        return [(path, why) for path, why in reasons if why]


def facts_of(volume: Volume, reconstructor: Reconstructor, batch_size: int) -> Facts:
    """Return the attributes that say where reconstructions come from; of methods, those of weights are empty.

    Args:
        volume: Their source.
        reconstructor: What made them.
        batch_size: Slices per forward pass.
    """
    return {
        "reconstructor": reconstructor.name,
        "checkpoint": reconstructor.checkpoint,
        "weights_sha256": reconstructor.weights_sha256,
        "options": json.dumps(reconstructor.options, sort_keys=True, default=str) if reconstructor.options else "",
        "source": volume.name,
        "source_bytes": volume.state.n_bytes,
        "source_sha256": samples_sha256(volume),
        "mrirecon": mrirecon.__version__,
        "bn_stats": reconstructor.bn_stats if reconstructor.checkpoint else "",
        "precision": reconstructor.precision,
        "batch_size": batch_size,
    }


def sampling_facts(mask: str, columns: Mask) -> Facts:
    """Return the attributes about their k-space: the mask's name, the id of its columns, its true acceleration."""
    return {"mask": mask, "mask_id": mask_id(columns), "acceleration_true": columns.acceleration_true}


def require_writable(folder: Path) -> None:
    """Raise an InputError unless `folder` is a folder to write to, or can be made."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{place} is not a folder; choose another --output")
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        raise InputError(f"{place} is on a read-only file system; choose another --output")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"no permission to write to {place}; choose another --output")


def _what_it_is(path: Path, there: There, facts: Facts) -> str:
    if path.is_dir():
        return "is a folder"
    found, has_kspace = there.get(path, ({}, False))
    if has_kspace:
        return "holds k-space"
    if _SAME[0] not in found:
        return "not made by mrirecon reconstruct"
    return _difference(found, facts)


def _difference(found: Mapping[str, str], facts: Facts) -> str:
    """The first thing in which a file's facts say otherwise; empty: none."""
    # methods have no weights but a name; statistics of the batch depend on its size
    keys = list(_SAME)
    if not facts["weights_sha256"]:
        keys.append("reconstructor")
    if facts["bn_stats"] == "batch":
        keys.append("batch_size")
    for key in keys:
        theirs, ours = found.get(key, ""), str(facts.get(key, ""))
        if key == "options" and key not in found:  # of an earlier version: methods had none, weights tell their network
            theirs = ours if facts["weights_sha256"] else ""
        if theirs != ours:
            return f"made with {key} {_short(theirs or 'none')}, now {_short(ours or 'none')}"
    return ""


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value


def _write_png(path: Path, images: np.ndarray, facts: Facts, _sd: np.ndarray | None) -> None:
    from mrirecon.report.figures.slices import draw_montage  # which needs matplotlib

    n, height, width = images.shape
    slices = "1 slice" if n == 1 else f"{n} slices"
    draw_montage(path, images, f"{facts['source']}   {facts['reconstructor']}   {slices}, {height} x {width}", facts)


_WRITERS: dict[str, Callable[[Path, np.ndarray, Facts, np.ndarray | None], None]] = {
    "h5": write_prediction,
    "png": _write_png,
}
