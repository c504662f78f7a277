"""Stored images, read slice by slice: references of fastMRI files, with or without k-space, and reconstructions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from mrirecon.data.folders.check import examine_all
from mrirecon.data.folders.volume_files import flat_or_split_files
from mrirecon.data.hdf5.description import (
    ESC,
    RSS,
    Identity,
    acceleration_of,
    complex_parts,
    find_reference,
    object_facts,
    read_attributes,
    reference_keys,
)
from mrirecon.data.hdf5.limits import GIB, n_bytes, require_slices
from mrirecon.data.hdf5.opening import FileState, opened, read_image, require_unchanged
from mrirecon.data.hdf5.quarantine import SAMPLES, Alive, Found, Job
from mrirecon.data.hdf5.soundness import find_dataset
from mrirecon.errors import InputError
from mrirecon.tables.metrics import OBJECT_MASK

AnyImages = TypeVar("AnyImages", bound="Images")
_MANY_FILES, _MANY_BYTES = 100, 2**28  # from here on it takes seconds, and progress is shown


@dataclass(frozen=True)
class Images:
    """The images `(slices, h, w)` of one data set of a file; small, no samples are kept."""

    path: Path
    label: str  # starts every error about them
    key: str
    shape: tuple[int, int, int]
    state: FileState  # of the file, before it was checked

    def image(self, i: int) -> np.ndarray:
        """Slice `i`, float64 `(h, w)`, as stored.

        Raises:
            InputError: It cannot be read, or holds NaN, infinity or huge values.
            DataChangedError: The file is not what was checked.
        """
        return read_image(self.path, self.label, self.key, i, self.state, np.float64)

    def require_unchanged(self) -> None:
        """Raise a DataChangedError where the file is not what it was, by size or time of change."""
        require_unchanged(self.path, self.label, self.state)


@dataclass(frozen=True)
class Reference(Images):
    """The reference images of one file, and what its attributes say."""

    name: str  # path relative to the folder of all references
    acquisition: str
    patient: str  # `patient_id`, else the name
    origin: str  # measured, also where the file does not say
    acceleration: float  # nominal; NaN where the file does not say
    was_chosen: bool  # both kinds of reference are there, and no k-space that tells which one is meant
    has_object_mask: bool = False
    object_fault: str = ""  # what is wrong with its object mask, for those who want it

    @property
    def object_masks(self) -> Images | None:
        """The masks of the object, `(slices, h, w)` as the images; None: the file has none.

        Raises:
            InputError: What the file says cannot be used.
        """
        if self.object_fault:
            raise InputError(f"{self.label}: {self.object_fault}")
        return Images(self.path, self.label, OBJECT_MASK, self.shape, self.state) if self.has_object_mask else None


def list_references(root: Path) -> list[Reference]:
    """The references of all `.h5` files in `root`, or in its split folders (val/, multicoil_test/, ...), checked.

    Single-coil files (k-space without a coil axis, or nothing but `reconstruction_esc`) have
    `reconstruction_esc` as reference, all others `reconstruction_rss`, as in fastMRI's evaluation.

    Raises:
        InputError: No file, a file without a sound reference, or references of both kinds.
    """
    if not root.is_dir():
        raise InputError(f"no folder {root}; TARGETS is a folder of fastMRI .h5 files with reference images")
    files = flat_or_split_files(root)
    if not files:
        raise InputError(f"no .h5 file in {root}; TARGETS is a folder of fastMRI .h5 files with reference images")
    references = _open_all(Reference, _reference, [(path, path.relative_to(root).as_posix()) for path in files])
    first = references[0]
    for other in references:
        if other.key != first.key:
            raise InputError(
                f"{first.name} has {first.key} and {other.name} has {other.key} as reference, which are not the same "
                "thing; score folders of one kind"
            )
    return references


def open_reconstructions(files: Sequence[tuple[Path, str]]) -> list[Images]:
    """The data sets `reconstruction` of fastMRI prediction files, each with the name of its volume.

    Raises:
        InputError: A file is damaged, or holds no real images `(slices, h, w)` of that name.
    """
    return _open_all(Images, _reconstruction, files)


def search_images(files: Sequence[Sequence[Images]]) -> None:
    """Read every slice once, in quarantine.

    Args:
        files: Of each file the images that are used: one data set, or several of one shape.

    Raises:
        InputError: One cannot be read, or holds NaN, infinity or huge values.
    """
    sizes = [n_bytes(images[0].shape, np.dtype(np.float64).itemsize) for images in files]
    jobs = [
        Job(images[0].label, partial(_search, images), SAMPLES, GIB + 4 * size // images[0].shape[0])
        for images, size in zip(files, sizes, strict=True)
    ]
    examine_all(jobs, lambda _i, _found: None, "images", sum(sizes) > _MANY_BYTES, in_one_line=True)


def _search(of_file: Sequence[Images], alive: Alive) -> Found:
    for images in of_file:
        for i in range(images.shape[0]):
            images.image(i)
            alive()
    return {}


def _open_all(
    kind: type[AnyImages], describe: Callable[[Path, str], AnyImages], files: Sequence[tuple[Path, str]]
) -> list[AnyImages]:
    """The images of each file, described in quarantine."""
    opened_files: list[AnyImages] = []

    def learn(i: int, found: Found) -> None:
        opened_files.append(
            kind(**{**found, "path": files[i][0], "shape": tuple(found["shape"]), "state": FileState(*found["state"])})
        )

    jobs = [Job(name, partial(_described, describe, path, name)) for path, name in files]
    examine_all(jobs, learn, "files", len(files) > _MANY_FILES, in_one_line=True)
    return opened_files


def _described(describe: Callable[[Path, str], Images], path: Path, name: str, _alive: Alive) -> Found:
    return {key: value for key, value in asdict(describe(path, name)).items() if key != "path"}


def _reconstruction(path: Path, name: str) -> Images:
    label, state = f"prediction {name}", FileState.of(path)
    with opened(path, label) as file:
        stored = find_dataset(file, "reconstruction")
        if stored is None:
            raise _missing(file, ("reconstruction",), "the data set of fastMRI's prediction files")
        if stored.dtype.kind not in "fiu":
            hint = ": give the magnitude, abs()" if complex_parts(stored.dtype) else ""
            raise InputError(f"reconstruction has dtype {stored.dtype}; it must be real{hint}")
        return Images(path, label, "reconstruction", _shape(stored), state)


def _reference(path: Path, name: str) -> Reference:
    label, state = f"target {name}", FileState.of(path)
    with opened(path, label) as file:
        kspace = find_dataset(file, "kspace")
        stored = find_reference(file, kspace)
        if stored is None:
            raise _missing(file, reference_keys(kspace), "a reference image")
        attrs = read_attributes(file)
        identity = Identity.of(attrs, name)
        return Reference(
            path,
            label,
            stored.name.lstrip("/"),
            _shape(stored),
            state,
            name=name,
            acquisition=identity.acquisition,
            patient=identity.patient,
            origin=identity.origin,
            acceleration=acceleration_of(attrs, otherwise=math.nan),
            was_chosen=kspace is None and {RSS, ESC} <= set(file),
            **object_facts(file, stored.shape),
        )


def _missing(file: h5py.File, keys: tuple[str, ...], what: str) -> InputError:
    there = ", ".join(sorted(file)[:6]) or "nothing"
    return InputError(f"has no {' or '.join(keys)}, {what} (there: {there}); add it, or remove the file")


def _shape(stored: h5py.Dataset) -> tuple[int, int, int]:
    if stored.ndim != 3 or 0 in stored.shape:
        raise InputError(f"{stored.name.lstrip('/')} has shape {stored.shape}; it must be (slices, height, width)")
    require_slices(stored.name.lstrip("/"), stored.shape, max(stored.dtype.itemsize, 8), stored.chunks)
    return stored.shape
