"""Attributes of an HDF5 file as plain values that can be printed, pickled and written as JSON."""

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from h5py import h5a

from mrirecon.data.hdf5.limits import ATTRIBUTE_BYTES, ATTRIBUTES
from mrirecon.errors import InputError

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are no text, ends of lines


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """All attributes of the file's root.

    Raises:
        InputError: More, or larger ones, than a description needs.
    """
    count = h5a.get_num_attrs(file.id)
    if count > ATTRIBUTES:
        raise InputError(f"has {count} attributes, at most {ATTRIBUTES} are read; remove those nobody needs")
    attrs = file.attrs  # made anew at each access
    return {readable(name): _read(attrs, name) for name in attrs}


def plain_value(value: Any) -> Any:
    """Text, a number, a truth value, None, or a list of those; what is none of them (a reference) as text."""
    if isinstance(value, np.ndarray | np.generic):
        value = float(value) if isinstance(value, np.floating) else value.tolist()
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return readable(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def acceleration_of(attrs: Mapping[str, Any], otherwise: float) -> float:
    """The nominal acceleration that a file states; `otherwise` where it states none, or none that can be."""
    value = attrs.get("acceleration")
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < math.inf
    return float(value) if is_number else otherwise  # type: ignore[arg-type]


def readable(text: str) -> str:
    """`text` on one line: a control character could rewrite a terminal, half a character cannot be written at all."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(letter) in _UNPRINTABLE else letter for letter in text)


def _read(attrs: h5py.AttributeManager, name: str) -> Any:
    stored = attrs.get_id(name)
    size = stored.get_space().get_simple_extent_npoints() * stored.get_type().get_size()
    if size <= ATTRIBUTE_BYTES:
        value = plain_value(attrs[name])
        size = len(str(value))  # text of any length is stored elsewhere
    if size > ATTRIBUTE_BYTES:
        raise InputError(f"attribute '{readable(name)}' holds {size} bytes, at most {ATTRIBUTE_BYTES} are read; cut it")
    return value
