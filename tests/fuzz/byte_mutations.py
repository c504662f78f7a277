"""Seeded damage to the bytes of an HDF5 file: anywhere, in its structure, in its samples, in its known records."""

import io
from collections.abc import Callable

import h5py
import numpy as np

Bytes = bytearray
Damage = Callable[[Bytes, np.random.Generator], Bytes]
_RECORDS = {
    "heaps": (b"HEAP", b"GCOL", b"FRHP", b"FHDB", b"FHIB"),
    "B-trees": (b"TREE", b"SNOD", b"BTHD", b"BTLF", b"BTIN", b"FAHD", b"FADB", b"EAHD", b"EAIB", b"EADB"),
    "object headers": (b"OHDR", b"OCHK"),
}
_RECORD_BYTES = 96
_TELLING = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


def spans(data: Bytes) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the samples of a sound file, and of everything else: its structure."""
    is_sample = np.zeros(len(data), bool)
    with h5py.File(io.BytesIO(data), "r") as file:
        for found in file.values():
            for start, size in _stored(found):
                is_sample[start : start + size] = True
    return np.flatnonzero(is_sample), np.flatnonzero(~is_sample)


def _stored(found: h5py.Dataset) -> list[tuple[int, int]]:
    if found.chunks is None:
        return [(found.id.get_offset(), found.id.get_storage_size())] if found.id.get_offset() else []
    chunks = (found.id.get_chunk_info(i) for i in range(found.id.get_num_chunks()))
    return [(chunk.byte_offset, chunk.size) for chunk in chunks]


def flip_bits(data: Bytes, rng: np.random.Generator) -> Bytes:
    """One to eight bits anywhere."""
    for position in rng.integers(len(data), size=rng.integers(1, 9)):
        data[position] ^= 1 << rng.integers(8)
    return data


def change_structure(data: Bytes, rng: np.random.Generator) -> Bytes:
    """One to thirty bytes that are no samples."""
    return _scatter(data, spans(data)[1], rng)


def change_samples(data: Bytes, rng: np.random.Generator) -> Bytes:
    """One to thirty bytes of samples: where nothing is compressed or checked, another valid number."""
    return _scatter(data, spans(data)[0], rng)


def _scatter(data: Bytes, places: np.ndarray, rng: np.random.Generator) -> Bytes:
    for position in rng.choice(places, rng.integers(1, 31)):
        data[position] = rng.integers(256)
    return data


def truncate(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Cut at the end, more often near one of the two ends."""
    share = float(rng.choice([rng.uniform(), rng.uniform() ** 4, 1 - rng.uniform() ** 4]))
    return data[: int(share * len(data))]


def append(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Foreign bytes after the end, or a user block of them before the begin."""
    foreign = rng.bytes(512 * 2 ** rng.integers(5))
    return data + foreign if rng.random() < 0.5 else Bytes(foreign) + data


def zero_block(data: Bytes, rng: np.random.Generator) -> Bytes:
    """A block of zeros, or of ones: a lost sector."""
    start, size = _block(data, rng)
    data[start : start + size] = bytes([rng.choice([0, 255])]) * len(data[start : start + size])
    return data


def duplicate_block(data: Bytes, rng: np.random.Generator) -> Bytes:
    """A block over another one, or inserted once more, which moves all that follows."""
    (start, size), (other, _) = _block(data, rng), _block(data, rng)
    block = data[start : start + size]
    data[other : other + (len(block) if rng.random() < 0.7 else 0)] = block
    return data


def swap_blocks(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Two blocks of one size change places."""
    (a, size), (b, _) = _block(data, rng), _block(data, rng)
    a, b = min(a, b), max(a, b)
    size = min(size, b - a, len(data) - b)
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return data


def _block(data: Bytes, rng: np.random.Generator) -> tuple[int, int]:
    """Start and size of a block; half of them lie at the begin of the file, where the structure is."""
    size = 2 ** int(rng.integers(3, 12))
    last = len(data) if rng.random() < 0.5 else min(4096, len(data))
    return int(rng.integers(max(last // size, 1))) * size, size


def rewrite_superblock(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Versions, sizes of offsets, addresses of the first 96 bytes."""
    return _rewrite(data, [8], rng)


def rewrite_records(kind: str) -> Damage:
    """Fields behind the signatures of one kind of record."""

    def change(data: Bytes, rng: np.random.Generator) -> Bytes:
        starts = [i for mark in _RECORDS[kind] for i in _all(data, mark)]
        if kind == "object headers":
            starts += _header_addresses(data)
        return _rewrite(data, starts or [8], rng)

    return change


def _all(data: Bytes, mark: bytes) -> list[int]:
    found, position = [], data.find(mark)
    while position >= 0:
        found.append(position + len(mark))
        position = data.find(mark, position + 1)
    return found


def _header_addresses(data: Bytes) -> list[int]:
    """Headers of the old format have no signature; the library knows where they are."""
    with h5py.File(io.BytesIO(data), "r") as file:
        return [h5py.h5o.get_info(found.id).addr for found in (file, *file.values())]


def _rewrite(data: Bytes, starts: list[int], rng: np.random.Generator) -> Bytes:
    """One to three little-endian fields within 96 bytes of a start become a telling number."""
    for _ in range(rng.integers(1, 4)):
        size = int(rng.choice([1, 2, 4, 8]))
        position = int(rng.choice(starts)) + size * int(rng.integers(_RECORD_BYTES // size))
        value = int(_TELLING[rng.integers(len(_TELLING))]) % 256**size
        if position + size <= len(data):
            data[position : position + size] = value.to_bytes(size, "little")
    return data


DAMAGE: dict[str, Damage] = {
    "bits": flip_bits,
    "bytes of structure": change_structure,
    "bytes of samples": change_samples,
    "truncated": truncate,
    "appended": append,
    "zeroed block": zero_block,
    "duplicated block": duplicate_block,
    "swapped blocks": swap_blocks,
    "superblock": rewrite_superblock,
    **{kind: rewrite_records(kind) for kind in _RECORDS},
}
