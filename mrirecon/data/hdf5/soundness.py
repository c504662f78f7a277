"""Refuse what a damaged or hostile HDF5 file would do to its reader, before HDF5 or numpy meets it.

Three checks: objects must lie wholly inside the file (`find_dataset`), string heaps must end where they say
(`check_heaps`), and samples must be finite and small enough for single precision (`require_sound`).

Opening a soft or external link opens what it points to, and reading a virtual data set or one with external storage
opens the files that it names: any file of this machine, or a pipe that never answers.

HDF5 keeps text (the XML header, text attributes) in "global heap collections": the signature GCOL, version 1, the
collection's size, then objects of 16 bytes (index, references, size) and their padded text; index 0 is the free space
at the end (HDF5 file format specification 3.0, section III.E). HDF5 follows a heap of zeros for ever, and crashes on
others.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5l, h5o

from mrirecon.data.hdf5.limits import n_bytes
from mrirecon.errors import InputError

_LARGEST_COMPRESSION = 1100  # gzip, HDF5's strongest common filter, cannot pass 1032
_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
_ADVICE = "write a file that holds the data itself"


def find_dataset(file: h5py.File, key: str) -> h5py.Dataset | None:
    """The data set `key`, or None.

    What a data set claims is held against the bytes that it has: gzip's deflate cannot pass 1032 to 1
    (https://zlib.org/zlib_tech.html).

    Raises:
        InputError: A link, a group, samples that lie in other files, or fewer than it claims.
    """
    if not file.id.links.exists(key.encode()):  # unlike `key in file`, true of a link whose object is damaged
        return None
    kind = _link_type(file, key)
    if kind != h5l.TYPE_HARD:
        raise InputError(f"'{key}' is {_LINKS.get(kind, 'a link')}, which is not followed; {_ADVICE}")
    found = h5o.open(file.id, key.encode())
    if not isinstance(found, h5d.DatasetID):
        raise InputError(f"'{key}' is a group, not a data set; write the file anew")
    if elsewhere := _elsewhere(found):
        raise InputError(f"'{key}' {elsewhere}, which are not opened; {_ADVICE}")
    dataset = h5py.Dataset(found)
    claimed = n_bytes(dataset.shape or (), dataset.dtype.itemsize)
    if claimed > _LARGEST_COMPRESSION * max(found.get_storage_size(), 1):
        raise InputError(f"'{key}' claims {claimed} bytes that the file does not hold; copy it again")
    return dataset


def inner_datasets(file: h5py.File) -> Iterator[h5d.DatasetID]:
    """The data sets directly in `file` whose samples are in it too; the others are left out."""
    for key in file:
        if _link_type(file, key) == h5l.TYPE_HARD:
            found = h5o.open(file.id, key.encode("utf-8", "surrogateescape"))
            if isinstance(found, h5d.DatasetID) and not _elsewhere(found):
                yield found


def _link_type(file: h5py.File, key: str) -> int:
    return int(file.id.links.get_info(key.encode("utf-8", "surrogateescape")).type)


def _elsewhere(dataset: h5d.DatasetID) -> str:
    """In what way a data set needs other files; empty: it does not. Asking opens none of them."""
    plan = dataset.get_create_plist()
    if plan.get_layout() == h5d.VIRTUAL:
        return "is a virtual data set made of other data sets"
    return "keeps its samples in other files" if plan.get_external_count() else ""


_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_HEADER = 16
_SEARCHED_BYTES = 2**24  # more than this between the samples: they are in chunks, and are not searched


def check_heaps(path: Path, file: h5py.File) -> None:
    """Walk every string heap that lies between the samples of `file`.

    Heaps: global heap collections of the HDF5 file format specification 3.0, section III.E
    (https://support.hdfgroup.org/archive/support/HDF5/doc/H5.format.html).

    Raises:
        InputError: A heap ends before its objects do, or has an object of no size.
    """
    gaps = _gaps(file, path.stat().st_size)
    if sum(stop - start for start, stop in gaps) > _SEARCHED_BYTES:
        return
    with path.open("rb") as raw:
        for start, stop in gaps:
            raw.seek(start)
            _check_gap(raw.read(stop - start))


def _gaps(file: h5py.File, size: int) -> list[tuple[int, int]]:
    """Spans of the file outside the samples of its data sets, in order."""
    samples = sorted((offset, d.get_storage_size()) for d in inner_datasets(file) if (offset := d.get_offset()))
    gaps, position = [], 0
    for offset, length in samples:
        if offset > position:
            gaps.append((position, min(offset, size)))
        position = max(position, offset + length)
    return [*gaps, (position, size)] if position < size else gaps


def _check_gap(data: bytes) -> None:
    start = data.find(_SIGNATURE)
    while start >= 0:
        length = _number(data, start + 8)
        if not _HEADER <= length <= len(data) - start or not _is_sound(data[start : start + length]):
            raise InputError("its text (header, attributes) is damaged; copy it again")
        start = data.find(_SIGNATURE, start + length)


def _is_sound(heap: bytes) -> bool:
    position = _HEADER
    while position + _HEADER <= len(heap):
        is_free = heap[position : position + 2] == b"\0\0"
        length = _number(heap, position + 8)
        taken = length if is_free else _HEADER + -(-length // 8) * 8
        if not _HEADER <= taken <= len(heap) - position:
            return False
        position += taken
    return True


def _number(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 8], "little")


LARGEST = 1e30  # the sum of a million such samples still fits into float32


def require_sound(values: np.ndarray, key: str, i: int) -> None:
    """Raise an InputError where slice `i` `(..., h, w)` of data set `key` holds NaN, infinity or huge values."""
    parts = values.view(values.real.dtype) if np.iscomplexobj(values) else values
    largest = max(float(parts.max()), -float(parts.min()))  # NaN, if there is any
    if largest <= LARGEST:
        return
    if np.isfinite(parts).all():
        raise InputError(f"{key} holds {largest:.3g} in slice {i}, at most {LARGEST:g} can be used; scale the file")
    raise InputError(f"{key} holds NaN or infinity in slice {i}; repair, replace or remove the file")


def slice_hash(values: np.ndarray) -> bytes:
    """Return the SHA-256 of the samples of a slice `(..., h, w)`."""
    return sha256(np.ascontiguousarray(values).data).digest()


def samples_sha256(kspace: Mapping[int, bytes], targets: Mapping[int, bytes], n_slices: int) -> tuple[str, str]:
    """Combine the hashes of slices, by number, to one of the middle slice and one of all; empty: some are missing.

    Args:
        kspace: Of k-space.
        targets: Of the reference; empty: there is none.
        n_slices: Slices of the volume.
    """

    def joined(wanted: Sequence[int]) -> str:
        parts = [of[i] for of in (kspace, targets) if of for i in wanted if i in of]
        return sha256(b"".join(parts)).hexdigest() if len(parts) == len(wanted) * (1 + bool(targets)) else ""

    return joined([n_slices // 2]), joined(range(n_slices))
