"""Seeded changes to what an HDF5 file says, through the library itself: sound files that say wrong or odd things."""

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
from specimens import WIDTH

Change = Callable[[h5py.File, np.random.Generator], None]
_KEYS = ("kspace", "reconstruction_rss", "reconstruction_esc", "mask", "ismrmrd_header")


def _pick(rng: np.random.Generator, options: Any) -> Any:
    options = list(options)
    return options[rng.integers(len(options))]


def put(file: h5py.File, key: str, values: Any, **options: Any) -> None:
    """A data set in place of what stood there."""
    if key in file:
        del file[key]
    file.create_dataset(key, data=values, **options)


def rename_key(file: h5py.File, rng: np.random.Generator) -> None:
    """A key goes, is called otherwise, or changes places with another one."""
    first, second = _pick(rng, file), _pick(rng, [*file, *_KEYS])
    new = _pick(rng, [second, first.upper(), f"{first} ", f" {first}", "k\u0308space", "a/b", f"{first}/0", "x" * 5000])
    if rng.random() < 0.2:
        del file[first]
    elif new in file and new != first:
        file.move(first, "between")
        file.move(new, first)
        file.move("between", new)
    elif new != first and not new.startswith(f"{first}/"):
        file.move(first, new)
    else:
        del file[first]
        file.create_group(first)


def swap_dtype(file: h5py.File, rng: np.random.Generator) -> None:
    """The same samples in another type, or another type of the same size."""
    key = _pick(rng, file)
    values = file[key][()]
    if not isinstance(values, np.ndarray):
        put(file, key, _pick(rng, [np.bytes_(values), np.void(values), 7, np.frombuffer(values, np.uint8)]))
        return
    put(file, key, _pick(rng, _converted(values)))


def _converted(values: np.ndarray) -> list[Any]:
    """One array in many types; those that a reader may accept stand beside those that it must not."""
    kinds = ["f2", "f4", "f8", ">f4", "i1", "u8", "?", "c8", "c16", ">c8", "S4", "V8"]
    with np.errstate(all="ignore"):
        real = values.real
        plain = [(values if kind[-2:] in ("c8", "16") else real).astype(kind) for kind in kinds]
    pair = np.zeros(values.shape, [("r", "f8"), ("i", "f8")])
    half = np.zeros(values.shape, [("real", "f2"), ("imag", "f2")])
    odd = np.zeros(values.shape, [("real", "f4"), ("imag", "i4")])
    for compound in (pair, half, odd):
        first, second = compound.dtype.names
        compound[first], compound[second] = real, values.imag
    nested = np.zeros(values.shape, [("a", "f4", (2,))])
    return [*plain, pair, half, odd, nested, real.astype("f4").view(np.uint8)]


def change_shape(file: h5py.File, rng: np.random.Generator) -> None:
    """Axes gone, added, exchanged, cut, emptied."""
    key = _pick(rng, [key for key in file if file[key].shape])
    values = file[key][()]
    axis = int(rng.integers(values.ndim))
    shapes = [
        values.T,
        values[None],
        values[..., None],
        np.moveaxis(values, axis, 0),
        values.take(0, axis),
        values.take(range(rng.integers(values.shape[axis] + 1)), axis),
        np.repeat(values, 2, axis),
        np.pad(values, [(int(rng.integers(3)), int(rng.integers(3))) for _ in values.shape]),
        values.ravel(),
        values.ravel()[0],
        values[:0],
        values[(slice(0, 1),) * values.ndim],
    ]
    put(file, key, _pick(rng, shapes))


def replace_attribute(file: h5py.File, rng: np.random.Generator) -> None:
    """Names, ids, maxima, accelerations become numbers, arrays, long, hostile, empty or undecodable texts."""
    known = ("acquisition", "patient_id", "max", "norm", "acceleration", "mask_seed_name", "origin", "new", "x/y", "")
    values = [
        *(float("nan"), float("inf"), -1.0, 0, 1e300, 2**63 - 1, True, np.float16(3), 1 + 2j),
        *(np.arange(5), np.zeros((2, 0)), np.array([b"a", b"b"]), np.array(["\u00e9"], h5py.string_dtype())),
        *(
            "",
            " ",
            "../../etc/passwd",
            "a\nb",
            "\x1b[31mred\x1b[0m",
            "<script>alert(1)</script>",
            "\u202ecba",
            "x" * 30000,
        ),
        *(b"\xff\xfe\x00", np.bytes_(b"\xc3("), h5py.Empty("f4"), h5py.Empty("S1"), np.void(b"\0\1\2")),
        *(np.zeros(3, [("a", "f4"), ("b", "S3")]), file.ref, file["ismrmrd_header"].ref),
    ]
    for _ in range(rng.integers(1, 4)):
        file.attrs[_pick(rng, known) or "e"] = _pick(rng, values)


def replace_mask(file: h5py.File, rng: np.random.Generator) -> None:
    """Masks of every type and shape, and columns of any pattern."""
    columns = rng.random(WIDTH) < rng.random()
    masks = [
        *(
            columns,
            columns.astype(np.float32),
            columns.astype("i8") * 7,
            -columns.astype("f8"),
            columns[None],
            columns[:, None],
        ),
        *(np.where(columns, np.nan, 1), np.where(columns, np.inf, -np.inf), np.ones(WIDTH), np.zeros(WIDTH)),
        *(columns[:-1], np.append(columns, columns), np.array(True), columns.astype("S1"), columns.astype("c8")),
        *(np.ones((2, WIDTH), bool), np.ones((WIDTH, WIDTH), bool), np.full(WIDTH, 1e-45), np.zeros(0)),
    ]
    put(file, "mask", _pick(rng, masks))


def change_samples(file: h5py.File, rng: np.random.Generator) -> None:
    """K-space or references of zeros, extremes, NaN and infinity: all of them, a slice or one sample."""
    key = _pick(rng, [key for key in file if key.startswith(("kspace", "recon"))])
    values = file[key][()]
    special = _pick(rng, [0, -0.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e-30, 1e-45, -1, 1e10])
    place = _pick(rng, [..., 0, -1, (0, ..., 3, 3), (slice(None), ..., slice(5, 9), slice(None))])
    values[place] = special
    if rng.random() < 0.3:
        with np.errstate(all="ignore"):
            values = values * values.dtype.type(
                _pick(rng, [1e-38, 1e-25, 1e25, 1e36, -1, 1j if key == "kspace" else 2])
            )
    put(file, key, values)


CHANGES: dict[str, Change] = {
    "keys": rename_key,
    "dtypes": swap_dtype,
    "shapes": change_shape,
    "attributes": replace_attribute,
    "masks": replace_mask,
    "sample values": change_samples,
}
