"""Stored images, read slice by slice: references of fastMRI files, with or without k-space, and reconstructions."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mrirecon.data.files import h5_files
from mrirecon.data.folder import split_folders
from mrirecon.data.handles import close, handle
from mrirecon.data.heaps import check_heaps
from mrirecon.data.layout import check_is_hdf5, complex_parts, find_dataset, plain_value, reading
from mrirecon.errors import InputError

_RSS, _ESC = "reconstruction_rss", "reconstruction_esc"


@dataclass(frozen=True)
class Images:
    """The images `(slices, h, w)` of one data set of a file; small, no samples are kept."""

    path: Path
    label: str  # starts every error about them
    key: str
    shape: tuple[int, int, int]

    def image(self, i: int) -> np.ndarray:
        """Slice `i`, float64 `(h, w)`, as stored.

        Raises:
            InputError: It cannot be read, or holds NaN or infinity.
        """
        with reading(self.label):
            values = handle(self.path)[self.key][i].astype(np.float64)
            if not np.isfinite(values).all():
                raise InputError(f"{self.key} holds NaN or infinity in slice {i}; repair or replace the file")
        return values


@dataclass(frozen=True)
class Reference(Images):
    """The reference images of one file, and what its attributes say."""

    name: str  # path relative to the folder of all references
    acquisition: str
    patient: str  # `patient_id`, else the name
    origin: str  # measured, also where the file does not say
    acceleration: float  # nominal; NaN where the file does not say
    was_chosen: bool  # both kinds of reference are there, and no k-space that tells which one is meant


def list_references(root: Path) -> list[Reference]:
    """The references of all `.h5` files in `root`, or in its split folders (val/, multicoil_test/, ...), checked.

    Single-coil files (k-space without a coil axis, or nothing but `reconstruction_esc`) have
    `reconstruction_esc` as reference, all others `reconstruction_rss`.

    Raises:
        InputError: No file, a file without a sound reference, or references of both kinds.
    """
    if not root.is_dir():
        raise InputError(f"no folder {root}; TARGETS is a folder of fastMRI .h5 files with reference images")
    inside = [path for paths in split_folders(root, "both").values() for path in paths]
    here = h5_files(root)
    if here and inside:
        raise InputError(f"{root} has both .h5 files and split folders ({inside[0].name}/); give one of the folders")
    files = here or [file for folder in inside for file in h5_files(folder)]
    if not files:
        raise InputError(f"no .h5 file in {root}; TARGETS is a folder of fastMRI .h5 files with reference images")
    references = [_open_reference(path, path.relative_to(root).as_posix()) for path in files]
    _require_one_kind(references)
    return references


def open_reconstruction(path: Path, name: str) -> Images:
    """The data set `reconstruction` of a fastMRI prediction file; `name` is the volume's.

    Raises:
        InputError: The file is damaged, or holds no real images `(slices, h, w)` of that name.
    """
    label = f"prediction {name}"
    with _opened(path, label) as file:
        stored = _require(file, ("reconstruction",), "the data set of fastMRI's prediction files")
        if stored.dtype.kind not in "fiu":
            hint = ": give the magnitude, abs()" if complex_parts(stored.dtype) else ""
            raise InputError(f"reconstruction has dtype {stored.dtype}; it must be real{hint}")
        return Images(path, label, "reconstruction", _shape(stored))


def _open_reference(path: Path, name: str) -> Reference:
    label = f"target {name}"
    with _opened(path, label) as file:
        kspace = find_dataset(file, "kspace")
        stored = _require(file, _keys(kspace), "a reference image")
        key = stored.name.lstrip("/")
        if stored.dtype.kind != "f":
            raise InputError(f"{key} has dtype {stored.dtype}; it must be float32 magnitudes")
        attrs = {key: plain_value(file.attrs[key]) for key in file.attrs}
        return Reference(
            path,
            label,
            key,
            _shape(stored),
            name=name,
            acquisition=str(attrs.get("acquisition", "unknown")),
            patient=str(attrs.get("patient_id", name)),
            origin=str(attrs.get("origin", "measured")),
            acceleration=_acceleration(attrs.get("acceleration")),
            was_chosen=kspace is None and {_RSS, _ESC} <= set(file),
        )


def _keys(kspace: h5py.Dataset | None) -> tuple[str, ...]:
    """Where the reference may be, the first choice first."""
    if kspace is None:
        return _RSS, _ESC
    return (_ESC, _RSS) if kspace.ndim == 3 else (_RSS,)


@contextmanager
def _opened(path: Path, label: str) -> Iterator[h5py.File]:
    """The file, sound as far as that shows without reading samples; what goes wrong becomes one line."""
    with reading(label):
        close(path)  # it may have been replaced since it was last opened
        check_is_hdf5(path)
        with h5py.File(path, "r") as file:
            check_heaps(path, file)
            yield file


def _require(file: h5py.File, keys: tuple[str, ...], what: str) -> h5py.Dataset:
    for key in keys:
        if (found := find_dataset(file, key)) is not None:
            return found
    there = ", ".join(sorted(file)[:6]) or "nothing"
    raise InputError(f"has no {' or '.join(keys)}, {what} (there: {there}); add it, or remove the file")


def _shape(stored: h5py.Dataset) -> tuple[int, int, int]:
    if stored.ndim != 3 or 0 in stored.shape:
        raise InputError(f"{stored.name.lstrip('/')} has shape {stored.shape}; it must be (slices, height, width)")
    return stored.shape


def _acceleration(value: Any) -> float:
    is_number = isinstance(value, int | float) and math.isfinite(value) and value >= 1
    return float(value) if is_number else math.nan


def _require_one_kind(references: list[Reference]) -> None:
    first = references[0]
    for other in references:
        if other.key != first.key:
            raise InputError(
                f"{first.name} has {first.key} and {other.name} has {other.key} as reference, which are not the same "
                "thing; score folders of one kind"
            )
