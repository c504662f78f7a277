"""What a fastMRI `.h5` file says about itself, read and checked without touching its samples.

Layout: `kspace` (slices, coils, height, width), or (slices, height, width) for single-coil; `ismrmrd_header`
(XML); `reconstruction_rss` and, single-coil, `reconstruction_esc` (slices, h, w); test files have `mask`
(width,) in place of a reconstruction. Attributes: `acquisition`, `patient_id`, `max`, `norm`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mrirecon.data.handles import close
from mrirecon.data.header import Header
from mrirecon.data.heaps import check_heaps
from mrirecon.errors import InputError

_LARGEST_COMPRESSION = 1100  # gzip, HDF5's strongest common filter, cannot pass 1032
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


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


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into one line that starts with the file's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except (Exception, SystemError) as error:  # a damaged file makes h5py raise anything
        reason = " ".join(str(error).split()).strip("'")[:200]
        raise InputError(f"{name}: damaged, HDF5 says: {reason or type(error).__name__}; copy it again") from error


def read_facts(path: Path, name: str) -> Facts:
    """Read the description of one file.

    Raises:
        InputError: `<name>: what is wrong; what to do`.
    """
    with reading(name):
        close(path)  # the file may have been replaced since it was last opened
        check_is_hdf5(path)
        with h5py.File(path, "r") as file:
            check_heaps(path, file)
            return _facts(file)


def check_is_hdf5(path: Path) -> None:
    """Raise an InputError for what cannot be an HDF5 file."""
    if path.is_dir():
        raise InputError("is a directory, not a file; rename or remove it")
    if not path.exists():
        raise InputError("does not exist (or is a broken link); restore or remove it")
    try:
        with path.open("rb") as raw:
            start = raw.read(len(_HDF5_SIGNATURE))
    except PermissionError:
        raise InputError("permission denied; make it readable (chmod u+r)") from None
    if not start:
        raise InputError("is empty (0 bytes); copy it again")
    if start != _HDF5_SIGNATURE and not h5py.is_hdf5(path):  # the signature may follow a user block
        raise InputError("is not an HDF5 file; remove it, or give it another ending than .h5")
    try:
        h5py.File(path, "r").close()
    except OSError as error:
        if "truncated" in str(error):
            raise InputError(f"is truncated ({path.stat().st_size} bytes are there); copy it again") from None
        raise


def _facts(file: h5py.File) -> Facts:
    kspace = _kspace(file)
    single = kspace.ndim == 3
    shape = (kspace.shape[0], 1, *kspace.shape[1:]) if single else kspace.shape
    target = _target(file, single, shape)
    header = _header(file, shape, target)
    header.acquired(shape[-1])  # a header that contradicts k-space is found now
    return Facts(
        shape=shape,
        single_coil=single,
        header=header,
        image_shape=_image_shape(header, shape, target),
        target_key=None if target is None else target.name.lstrip("/"),
        file_mask=_mask(file, shape[-1]),
        attrs={key: plain_value(value) for key, value in file.attrs.items()},
        n_bytes=kspace.nbytes + (0 if target is None else target.nbytes),
    )


def find_dataset(file: h5py.File, key: str) -> h5py.Dataset | None:
    """The data set `key`, or None."""
    if key not in list(file):  # unlike `key in file`, true of a link whose object is damaged
        return None
    found = file[key]
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"'{key}' is a group, not a data set; write the file anew")
    if found.nbytes > _LARGEST_COMPRESSION * max(found.id.get_storage_size(), 1):
        raise InputError(f"'{key}' claims {found.nbytes} bytes that the file does not hold; copy it again")
    return found


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
    return kspace


def complex_parts(dtype: np.dtype) -> tuple[str, str] | None:
    """Names of the real and imaginary field of a compound type, two empty names for complex, else None."""
    if dtype.kind == "c":
        return "", ""
    names = tuple(dtype.names or ())
    floats = names and all(dtype[name].kind == "f" for name in names)
    return (names[0], names[1]) if floats and names in (("real", "imag"), ("r", "i"), ("re", "im")) else None


def _target(file: h5py.File, single: bool, shape: tuple[int, ...]) -> h5py.Dataset | None:
    """Single-coil files are scored against `reconstruction_esc`, though they have an RSS image as well."""
    keys = ("reconstruction_esc", "reconstruction_rss") if single else ("reconstruction_rss",)
    target = next((found for key in keys if (found := find_dataset(file, key)) is not None), None)
    if target is None:
        return None
    key = target.name.lstrip("/")
    if target.dtype.kind != "f":
        raise InputError(f"{key} has dtype {target.dtype}; it must be float32 magnitudes")
    if target.ndim != 3 or 0 in target.shape or target.shape[0] != shape[0]:
        raise InputError(f"{key} has shape {target.shape}; {shape[0]} slices of k-space need ({shape[0]}, h, w)")
    if target.shape[1] > shape[2]:
        raise InputError(f"{key} is {target.shape[1]} high, kspace only {shape[2]}; write both of one scan")
    return target


def _header(file: h5py.File, shape: tuple[int, ...], target: h5py.Dataset | None) -> Header:
    stored = find_dataset(file, "ismrmrd_header")
    if stored is not None:
        if stored.shape != () or h5py.check_string_dtype(stored.dtype) is None:
            raise InputError(f"ismrmrd_header has dtype {stored.dtype}; it must be one XML string")
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
    stored = find_dataset(file, "mask")
    if stored is None:
        return None
    if stored.size != width or stored.dtype.kind not in "buif":
        raise InputError(
            f"mask has {stored.size} entries of {stored.dtype}; it needs {width}, true where a column is kept"
        )
    columns = np.asarray(stored).reshape(width) > 0
    if not columns.any():
        raise InputError("mask keeps no column; write the file anew")
    return columns


def plain_value(value: Any) -> Any:
    """An attribute as a plain Python value."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
