"""Every class of mutation of an HDF5 file, by name: `mutate(class, rng)` gives the bytes of a mutated file."""

import tempfile
from functools import cache
from pathlib import Path

import h5py
import numpy as np
from byte_mutations import DAMAGE
from content_mutations import CHANGES, Change
from header_mutations import change_header
from specimens import SPECIMENS
from storage_mutations import STORAGE

_EDITS: dict[str, Change] = {**CHANGES, "headers": change_header, **STORAGE}
_BOTH = "content and bytes"
_BLIND = ("bits", "truncated", "appended", "zeroed block", "duplicated block", "swapped blocks", "superblock")
CLASSES = (*DAMAGE, *_EDITS, _BOTH)


def mutate(name: str, rng: np.random.Generator) -> bytes:
    """A file of a random kind under one mutation of the class `name`."""
    data = _specimen(list(SPECIMENS)[rng.integers(len(SPECIMENS))])
    if name == _BOTH:
        edited = _edited(data, list(_EDITS.values())[rng.integers(len(_EDITS))], rng)
        return bytes(DAMAGE[_BLIND[rng.integers(len(_BLIND))]](bytearray(edited), rng))
    if name in DAMAGE:
        return bytes(DAMAGE[name](bytearray(data), rng))
    return _edited(data, _EDITS[name], rng)


@cache
def _specimen(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.h5"
        SPECIMENS[kind](path)
        return path.read_bytes()


def sound() -> bytes:
    """A file with nothing wrong."""
    return _specimen("multi-coil")


def _edited(data: bytes, edit: Change, rng: np.random.Generator) -> bytes:
    """The file after `edit`; what the library refuses to write stays as it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.h5"
        path.write_bytes(data)
        with h5py.File(path, "r+") as file:
            try:
                edit(file, rng)
            except (TypeError, ValueError, RuntimeError, OSError, KeyError):
                file.attrs["max"] = "refused"
        return path.read_bytes()
