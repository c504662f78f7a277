"""Read what a fastMRI `.h5` file says about itself, and check it, without touching its samples.

Layout: `kspace` (slices, coils, height, width), or (slices, height, width) for single-coil; `ismrmrd_header`
(XML); `reconstruction_rss` and, single-coil, `reconstruction_esc` (slices, h, w); test files have `mask`
(width,) in place of a reconstruction. Attributes: `acquisition`, `patient_id`, `max`, `norm`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5a

from mrirecon.data.hdf5.limits import (
    ATTRIBUTE_BYTES,
    ATTRIBUTES,
    HEADER_BYTES,
    MOST_COILS,
    require_room,
    require_slices,
)
from mrirecon.data.hdf5.opening import opened, readable
from mrirecon.data.hdf5.soundness import find_dataset
from mrirecon.data.header import Header
from mrirecon.errors import InputError
from mrirecon.tables.metrics import OBJECT_MASK

RSS, ESC = "reconstruction_rss", "reconstruction_esc"


class Identity(NamedTuple):
    """The patient whose scan a file holds, and what kind of scan it is, as far as its attributes say."""

    acquisition: str  # contrast (CORPD_FBK, AXT2, ...), or unknown
    patient: str  # `patient_id`, else the file's name: what splits and intervals keep together
    origin: str  # measured (also where the file does not say), simulated-from-phantom or simulated-from-magnitude

    @classmethod
    def of(cls, attrs: Mapping[str, Any], name: str) -> "Identity":
        """Read them from the attributes of the file called `name`: fastMRI's two, and `origin`, which is our own."""
        return cls(
            str(attrs.get("acquisition", "unknown")),
            str(attrs.get("patient_id", name)),
            str(attrs.get("origin", "measured")),
        )


@dataclass(frozen=True)
class Facts:
    """The description of one file; small, and pickled with its volume."""

    shape: tuple[int, int, int, int]  # slices, coils, height, width
    single_coil: bool
    header: Header
    image_shape: tuple[int, int]
    target_key: str | None
    file_mask: np.ndarray | None  # bool (width,)
    attrs: dict[str, Any]
    n_bytes: int  # of kspace and target as stored in memory
    has_object_mask: bool = False
    object_fault: str = ""  # what is wrong with its object mask, for those who want it

    def to_plain(self) -> dict[str, Any]:
        """All of it as values that JSON can hold."""
        mask = None if self.file_mask is None else (self.file_mask + np.uint8(ord("0"))).tobytes().decode()
        return {**vars(self), "header": asdict(self.header), "file_mask": mask}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Facts":
        """The same description again, of what `to_plain` gave, also by way of JSON."""
        mask = plain["file_mask"]
        header: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain["header"].items()}
        return cls(
            **{
                **plain,
                "shape": tuple(plain["shape"]),
                "image_shape": tuple(plain["image_shape"]),
                "file_mask": None if mask is None else np.frombuffer(mask.encode(), np.uint8) == ord("1"),
                "header": Header(**header),
            }
        )


def read_facts(path: Path, name: str) -> Facts:
    """Read the description of one file in the layout of fastMRI.

    Raises:
        InputError: `<name>: what is wrong; what to do`.
    """
    with opened(path, name) as file:
        kspace = _kspace(file)
        single = kspace.ndim == 3
        shape = (kspace.shape[0], 1, *kspace.shape[1:]) if single else kspace.shape
        target = _target(file, kspace, shape)
        header = _header(file, shape, target)
        header.acquired(shape[-1])  # a header that contradicts k-space is found now
        image_shape = _image_shape(header, shape, target)
        return Facts(
            shape=shape,
            single_coil=single,
            header=header,
            image_shape=image_shape,
            target_key=None if target is None else target.name.lstrip("/"),
            file_mask=_mask(file, shape[-1]),
            attrs=read_attributes(file),
            n_bytes=kspace.nbytes + (0 if target is None else target.nbytes),
            **object_facts(file, (shape[0], *image_shape)),
        )


def object_facts(file: h5py.File, shape: tuple[int, ...]) -> dict[str, Any]:
    """Say whether the data set `object_mask` is there, which marks the object in images of `shape` (slices, h, w).

    `has_object_mask`, or `object_fault` where it is of another shape, or neither of whole numbers nor of truth values.
    """
    try:
        found = find_dataset(file, OBJECT_MASK)
        if found is None:
            return {}
        if found.shape != shape or found.dtype.kind not in "biu":
            raise InputError(
                f"'{OBJECT_MASK}' is {found.dtype} of shape {found.shape}; whole numbers or truth values of shape "
                f"{shape} (slices, h, w) are needed: write it anew, or remove it (a rule finds the object then)"
            )
        require_slices(OBJECT_MASK, found.shape, found.dtype.itemsize, found.chunks)
    except InputError as error:
        return {"object_fault": readable(str(error))}
    return {"has_object_mask": True}


def _kspace(file: h5py.File) -> h5py.Dataset:
    kspace = find_dataset(file, "kspace")
    if kspace is None:
        there = ", ".join(sorted(file)[:6]) or "nothing"
        raise InputError(f"has no data set 'kspace' (there: {there}); it is not raw data in the fastMRI layout")
    if kspace.ndim not in (3, 4) or 0 in kspace.shape:
        raise InputError(
            f"kspace has shape {kspace.shape}; it must be (slices, coils, height, width), "
            "or (slices, height, width) for single-coil"
        )
    if complex_parts(kspace.dtype) is None:
        raise InputError(f"kspace has dtype {kspace.dtype}; it must be complex64 (complex128 is accepted)")
    require_slices("kspace", kspace.shape, max(kspace.dtype.itemsize, 8), kspace.chunks)
    if kspace.ndim == 4 and kspace.shape[1] > MOST_COILS:
        raise InputError(f"kspace claims {kspace.shape[1]} coils, at most {MOST_COILS} are read; copy it again")
    return kspace


def complex_parts(dtype: np.dtype) -> tuple[str, str] | None:
    """Names of the real and imaginary field of a compound type, two empty names for complex, else None.

    h5py writes `r` and `i`, ISMRMRD (Inati et al. 2017) `real` and `imag`.
    """
    if dtype.kind == "c":
        return "", ""
    names = tuple(dtype.names or ())
    floats = names and all(dtype[name].kind == "f" for name in names)
    return (names[0], names[1]) if floats and names in (("real", "imag"), ("r", "i"), ("re", "im")) else None


def as_complex(stored: np.ndarray) -> np.ndarray:
    """Return complex values of the same shape as `stored`, whose type may be one of `complex_parts`."""
    real, imaginary = complex_parts(stored.dtype) or ("", "")
    return stored[real] + 1j * stored[imaginary] if real else stored


def reference_keys(kspace: h5py.Dataset | None) -> tuple[str, ...]:
    """Return the data sets that may be the reference of a file with this k-space (None: without any), best first.

    Single-coil files are scored against `reconstruction_esc`, though they have an RSS image as well, as
    fastMRI's evaluation does.
    """
    if kspace is None:
        return RSS, ESC
    return (ESC, RSS) if kspace.ndim == 3 else (RSS,)


def find_reference(file: h5py.File, kspace: h5py.Dataset | None) -> h5py.Dataset | None:
    """Return the data set with the reference images of a fastMRI file, or None; see `reference_keys`.

    Raises:
        InputError: It holds no real floating-point numbers.
    """
    found = next((found for key in reference_keys(kspace) if (found := find_dataset(file, key)) is not None), None)
    if found is not None and found.dtype.kind != "f":
        raise InputError(f"{found.name.lstrip('/')} has dtype {found.dtype}; it must be float32 magnitudes")
    return found


def _target(file: h5py.File, kspace: h5py.Dataset, shape: tuple[int, ...]) -> h5py.Dataset | None:
    target = find_reference(file, kspace)
    if target is None:
        return None
    key = target.name.lstrip("/")
    if target.ndim != 3 or 0 in target.shape or target.shape[0] != shape[0]:
        raise InputError(f"{key} has shape {target.shape}; {shape[0]} slices of k-space need ({shape[0]}, h, w)")
    if target.shape[1] > shape[2]:
        raise InputError(f"{key} is {target.shape[1]} high, kspace only {shape[2]}; write both of one scan")
    require_slices(key, target.shape, target.dtype.itemsize, target.chunks)
    return target


def _header(file: h5py.File, shape: tuple[int, ...], target: h5py.Dataset | None) -> Header:
    stored = find_dataset(file, "ismrmrd_header")
    if stored is not None:
        if stored.shape != () or h5py.check_string_dtype(stored.dtype) is None:
            raise InputError(f"ismrmrd_header has dtype {stored.dtype}; it must be one XML string")
        if stored.dtype.itemsize > HEADER_BYTES:
            raise InputError(f"ismrmrd_header has {stored.dtype.itemsize} bytes, at most {HEADER_BYTES} are read")
        return Header.from_xml(stored[()])
    if target is None:
        raise InputError(
            "has neither 'ismrmrd_header' nor a reference: the size of its image is unknown; add the header"
        )
    return Header.from_shapes((shape[2], shape[3]), (target.shape[1], target.shape[2]))


def _image_shape(header: Header, shape: tuple[int, ...], target: h5py.Dataset | None) -> tuple[int, int]:
    """The reference's size; without one the header's, limited by k-space as fastMRI limits it.

    fastMRI (FLAIR_203): k-space narrower than the reconstruction gives a square of k-space's width.
    """
    if target is not None:
        return target.shape[1], target.shape[2]
    height, width = header.crop_shape
    if shape[3] < width:
        height = width = shape[3]
    return min(height, shape[2]), width


def _mask(file: h5py.File, width: int) -> np.ndarray | None:
    """Read the data set `mask` as bool `(width,)`, or None."""
    stored = find_dataset(file, "mask")
    if stored is None:
        return None
    if stored.size != width or stored.dtype.kind not in "buif":
        raise InputError(
            f"mask has {stored.size} entries of {stored.dtype}; it needs {width}, true where a column is kept"
        )
    require_room("mask", stored.nbytes)
    columns = np.asarray(stored).reshape(width) > 0
    if not columns.any():
        raise InputError("mask keeps no column; write the file anew")
    return columns


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
    """The nominal acceleration that a file states, as fastMRI's test files do.

    `otherwise` where it states none, or none that can be.
    """
    value = attrs.get("acceleration")
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < math.inf
    return float(value) if is_number else otherwise  # type: ignore[arg-type]


def _read(attrs: h5py.AttributeManager, name: str) -> Any:
    stored = attrs.get_id(name)
    size = stored.get_space().get_simple_extent_npoints() * stored.get_type().get_size()
    if size <= ATTRIBUTE_BYTES:
        value = plain_value(attrs[name])
        size = len(str(value))  # text of any length is stored elsewhere
    if size > ATTRIBUTE_BYTES:
        raise InputError(f"attribute '{readable(name)}' holds {size} bytes, at most {ATTRIBUTE_BYTES} are read; cut it")
    return value
