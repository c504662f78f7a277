"""Find damaged string heaps before HDF5 reads them: it follows a heap of zeros for ever, and crashes on others.

HDF5 keeps text (the XML header, text attributes) in "global heap collections": the signature GCOL, version 1,
the collection's size, then objects of 16 bytes (index, references, size) and their padded text; index 0 is
the free space at the end (HDF5 file format specification 3.0, section III.E).
"""

from pathlib import Path

import h5py

from mrirecon.data.hdf5.links import inner_datasets
from mrirecon.errors import InputError

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_HEADER = 16
_SEARCHED_BYTES = 2**24  # more than this between the samples: they are in chunks, and are not searched


def check_heaps(path: Path, file: h5py.File) -> None:
    """Walk every string heap that lies between the samples of `file`.

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
