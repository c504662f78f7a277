"""Seeded damage to the bytes of a checkpoint: a zip archive of a pickle and of the bytes of its tensors."""

import io
import struct
import warnings
import zipfile
from collections.abc import Callable

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]


def members(data: bytes) -> dict[str, bytes]:
    """Content by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rebuilt(content: dict[str, bytes] | list[tuple[str, bytes]]) -> bytes:
    """An archive with right checksums."""
    stream = io.BytesIO()
    pairs = list(content.items()) if isinstance(content, dict) else content
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, value in pairs:
            archive.writestr(name, value)
    return stream.getvalue()


def _scattered(data: bytes, start: int, stop: int, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for position in rng.integers(start, max(stop, start + 1), size=rng.integers(1, 17)):
        changed[position] = rng.integers(256)
    return bytes(changed)


def _member(data: bytes, rng: np.random.Generator, pickle: bool) -> str:
    names = [name for name, value in members(data).items() if name.endswith("data.pkl") == pickle and len(value) > 8]
    return names[rng.integers(len(names))]


def _spot(data: bytes, name: str) -> tuple[int, int]:
    """Where the bytes of a member lie."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo(name)
    n_name, n_extra = struct.unpack("<HH", data[info.header_offset + 26 : info.header_offset + 30])
    start = info.header_offset + 30 + n_name + n_extra
    return start, start + info.file_size


def flip_directory(data: bytes, rng: np.random.Generator) -> bytes:
    """The table of contents at the end."""
    start = data.find(b"PK\x01\x02")
    return _scattered(data, start, len(data), rng)


def flip_local_header(data: bytes, rng: np.random.Generator) -> bytes:
    """The record before a member."""
    start, _ = _spot(data, _member(data, rng, bool(rng.integers(2))))
    return _scattered(data, max(start - 80, 0), start, rng)


def flip_anywhere(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes anywhere."""
    return _scattered(data, 0, len(data), rng)


def flip_pickle(data: bytes, rng: np.random.Generator) -> bytes:
    """Opcodes and arguments of the pickle; half of the archives get a right checksum again."""
    return _flip_member(data, _member(data, rng, True), rng)


def flip_tensor(data: bytes, rng: np.random.Generator) -> bytes:
    """Numbers of a tensor; half of the archives get a right checksum again."""
    return _flip_member(data, _member(data, rng, False), rng)


def _flip_member(data: bytes, name: str, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.5:
        return _scattered(data, *_spot(data, name), rng)
    content = members(data)
    content[name] = _scattered(content[name], 0, len(content[name]), rng)
    return rebuilt(content)


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut anywhere, more often near the end."""
    return data[: int(len(data) * (1 - rng.random() ** 2))]


def move_blocks(data: bytes, rng: np.random.Generator) -> bytes:
    """A block of zeros, or one block over another."""
    size = 2 ** int(rng.integers(4, 12))
    a, b = (int(i) for i in rng.integers(0, max(len(data) - size, 1), size=2))
    return data[:a] + (bytes(size) if rng.random() < 0.5 else data[b : b + size]) + data[a + size :]


def swap_members(data: bytes, rng: np.random.Generator) -> bytes:
    """Members under each other's names, missing, twice, called otherwise, or leading out of the archive."""
    pairs = list(members(data).items())
    i, j = (int(k) for k in rng.integers(len(pairs), size=2))
    (first, one), (second, other) = pairs[i], pairs[j]
    kind = rng.integers(5)
    if kind == 0:
        pairs[i], pairs[j] = (first, other), (second, one)
    elif kind == 1:
        del pairs[i]
    elif kind == 2:
        pairs.append((first, other))
    elif kind == 3:
        pairs[i] = (f"../{first}", one)
    else:
        pairs[i] = (first, one[: len(one) // 2])
    return rebuilt(pairs)


def other_file(data: bytes, rng: np.random.Generator) -> bytes:
    """No checkpoint at all."""
    stream = io.BytesIO()
    np.savez(stream, a=np.arange(3))
    others = [
        b"",
        b"hello",
        bytes(5000),
        b"\x89HDF\r\n\x1a\n" * 50,
        stream.getvalue(),
        data[::-1],
        rng.bytes(3000),
        b"PK\x05\x06" + bytes(18),
    ]
    return others[rng.integers(len(others))]


DAMAGE: dict[str, Damage] = {
    "zip directory": flip_directory,
    "zip headers": flip_local_header,
    "bytes": flip_anywhere,
    "pickle bytes": flip_pickle,
    "tensor bytes": flip_tensor,
    "truncated": truncate,
    "moved blocks": move_blocks,
    "swapped members": swap_members,
    "other files": other_file,
}
