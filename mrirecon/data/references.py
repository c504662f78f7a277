"""Stored images, read slice by slice: references of fastMRI files, with or without k-space, and reconstructions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from mrirecon.data.folders.check import examine_all
from mrirecon.data.folders.folder import split_folders
from mrirecon.data.folders.volume_files import h5_files
from mrirecon.data.hdf5.description import acceleration_of, complex_parts, find_object_mask, read_attributes
from mrirecon.data.hdf5.limits import GIB, n_bytes, require_slices
from mrirecon.data.hdf5.opening import FileState, handle, opened, reading, require_unchanged
from mrirecon.data.hdf5.quarantine import SAMPLES, Alive, Found, Job
from mrirecon.data.hdf5.soundness import find_dataset, require_sound
from mrirecon.errors import InputError
from mrirecon.tables.metrics import OBJECT_MASK

AnyImages = TypeVar("AnyImages", bound="Images")
_MANY_FILES, _MANY_BYTES = 100, 2**28  # from here on it takes seconds, and progress is shown
_RSS, _ESC = "reconstruction_rss", "reconstruction_esc"


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
        try:
            with reading(self.label):
                stored = find_dataset(handle(self.path), self.key)
                if stored is None:
                    raise InputError(f"'{self.key}' changed while it was in use")
                values = stored[i].astype(np.float64)
                require_sound(values, self.key, i)
        finally:
            self.require_unchanged()
        return values

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
        """Where the object is, of the same shape; None: the file does not say.

        Raises:
            InputError: What the file says cannot be used.
        """
        if self.object_fault:
            raise InputError(f"{self.label}: {self.object_fault}")
        return Images(self.path, self.label, OBJECT_MASK, self.shape, self.state) if self.has_object_mask else None


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
    references = _open_all(Reference, _reference, [(path, path.relative_to(root).as_posix()) for path in files])
    _require_one_kind(references)
    return references


def open_reconstructions(files: Sequence[tuple[Path, str]]) -> list[Images]:
    """The data sets `reconstruction` of fastMRI prediction files, each with the name of its volume.

    Raises:
        InputError: A file is damaged, or holds no real images `(slices, h, w)` of that name.
    """
    return _open_all(Images, _reconstruction, files)


def search_images(images: Sequence[Images]) -> None:
    """Read every slice once, in quarantine.

    Raises:
        InputError: One cannot be read, or holds NaN, infinity or huge values.
    """
    sizes = [n_bytes(found.shape, np.dtype(np.float64).itemsize) for found in images]
    jobs = [
        Job(found.label, partial(_search, found), SAMPLES, GIB + 4 * size // found.shape[0])
        for found, size in zip(images, sizes, strict=True)
    ]
    examine_all(jobs, lambda _i, _found: None, "images", sum(sizes) > _MANY_BYTES, in_one_line=True)


def _search(images: Images, alive: Alive) -> Found:
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
        stored = _require(file, ("reconstruction",), "the data set of fastMRI's prediction files")
        if stored.dtype.kind not in "fiu":
            hint = ": give the magnitude, abs()" if complex_parts(stored.dtype) else ""
            raise InputError(f"reconstruction has dtype {stored.dtype}; it must be real{hint}")
        return Images(path, label, "reconstruction", _shape(stored), state)


def _reference(path: Path, name: str) -> Reference:
    label, state = f"target {name}", FileState.of(path)
    with opened(path, label) as file:
        kspace = find_dataset(file, "kspace")
        stored = _require(file, _keys(kspace), "a reference image")
        key = stored.name.lstrip("/")
        if stored.dtype.kind != "f":
            raise InputError(f"{key} has dtype {stored.dtype}; it must be float32 magnitudes")
        attrs = read_attributes(file)
        return Reference(
            path,
            label,
            key,
            _shape(stored),
            state,
            name=name,
            acquisition=str(attrs.get("acquisition", "unknown")),
            patient=str(attrs.get("patient_id", name)),
            origin=str(attrs.get("origin", "measured")),
            acceleration=acceleration_of(attrs, otherwise=math.nan),
            was_chosen=kspace is None and {_RSS, _ESC} <= set(file),
            **_object(file, stored.shape),
        )


def _object(file: h5py.File, shape: tuple[int, ...]) -> dict[str, Any]:
    try:
        return {"has_object_mask": find_object_mask(file, shape) is not None}
    except InputError as error:
        return {"object_fault": str(error)}


def _keys(kspace: h5py.Dataset | None) -> tuple[str, ...]:
    """Where the reference may be, the first choice first."""
    if kspace is None:
        return _RSS, _ESC
    return (_ESC, _RSS) if kspace.ndim == 3 else (_RSS,)


def _require(file: h5py.File, keys: tuple[str, ...], what: str) -> h5py.Dataset:
    for key in keys:
        if (found := find_dataset(file, key)) is not None:
            return found
    there = ", ".join(sorted(file)[:6]) or "nothing"
    raise InputError(f"has no {' or '.join(keys)}, {what} (there: {there}); add it, or remove the file")


def _shape(stored: h5py.Dataset) -> tuple[int, int, int]:
    if stored.ndim != 3 or 0 in stored.shape:
        raise InputError(f"{stored.name.lstrip('/')} has shape {stored.shape}; it must be (slices, height, width)")
    require_slices(stored.name.lstrip("/"), stored.shape, max(stored.dtype.itemsize, 8), stored.chunks)
    return stored.shape


def _require_one_kind(references: list[Reference]) -> None:
    first = references[0]
    for other in references:
        if other.key != first.key:
            raise InputError(
                f"{first.name} has {first.key} and {other.name} has {other.key} as reference, which are not the same "
                "thing; score folders of one kind"
            )
