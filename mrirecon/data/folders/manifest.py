"""What a data set is: in one hash for the record of a run, and file by file between processes on several nodes."""

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from mrirecon import ranks
from mrirecon.data.folders.check import fingerprints
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError

_Row = dict[str, Any]


def data_manifest(volumes: Sequence[Volume]) -> dict[str, Any]:
    """Number of volumes and the SHA-256 over their sorted (name, bytes, k-space shape, bytes of samples, header)."""
    rows = sorted(_row(volume) for volume in volumes)
    digest = sha256(json.dumps(rows).encode()).hexdigest()
    return {"n_volumes": len(rows), "sha256": digest}


def _row(volume: Volume) -> list[Any]:
    header = sha256(volume.header.to_xml()).hexdigest()
    return [volume.name, volume.path.stat().st_size, list(volume.shape), volume.facts.n_bytes, header]


def content_hash(volumes: Sequence[Volume]) -> str:
    """One hash over what `require_same_contents` compares, for workers that never meet."""
    return sha256(json.dumps(sorted(fingerprints(volumes).items())).encode()).hexdigest()


def require_same_files(files: Mapping[str, Path], where: str) -> None:
    """Raise an InputError on all processes of a group unless they see the same `files` by name and size."""
    if ranks.in_group():
        _require_same({name: {"size": _stat(path)[1]} for name, path in files.items()}, where)


def require_same_contents(volumes: Sequence[Volume], where: str) -> None:
    """Raise an InputError on all processes of a group unless their files are the same by patient and content.

    The content is a file's description and its first slice (`Volume.fingerprint`), which each process reads; nothing is
    read where all see one file system.
    """
    if not ranks.in_group():
        return
    own = {volume.name: _stat(volume.path) for volume in volumes}
    first = ranks.from_first(lambda: own)
    if not ranks.any_of(not all(_is_one_file(first.get(name), state) for name, state in own.items())):
        return
    with ranks.agreeing():
        found = fingerprints(volumes)
    _require_same({name: {"patient": found[name][0], "content": found[name][1]} for name in own}, where)


def _stat(path: Path) -> list[int]:
    """Inode, size and times; zeros where there is no such file."""
    try:
        stat = path.stat()
    except OSError:  # a link to nothing, which the check of all files reports
        return [0, 0, 0, 0]
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _is_one_file(first: Iterable[int] | None, own: list[int]) -> bool:
    """One file of a shared file system: no copy has its inode and its time of change, unless that is a whole second, as
    some file systems and images of file systems have them.
    """
    return first is not None and list(first) == own and own[3] % 10**9 != 0


def _require_same(own: dict[str, _Row], where: str) -> None:
    host, first = ranks.from_first(lambda: (socket.gethostname(), own))
    with ranks.agreeing():
        names = sorted(name for name in first.keys() | own.keys() if first.get(name) != own.get(name))
        if names:
            raise InputError(
                f"it sees other data in {where} than process 0 (on {host}): "
                f"{_difference(names[0], first.get(names[0]), own.get(names[0]))} ({len(names)} of "
                f"{len(first.keys() | own.keys())} files differ); give all nodes the same files"
            )


def _difference(name: str, first: _Row | None, own: _Row | None) -> str:
    if first is None or own is None:
        return f"{name} is {'not there' if own is None else 'only here'}"
    key = next(key for key in own if own[key] != first[key])
    if key == "content":
        return f"{name} has another header, attributes or first slice"
    return f"{name} has {key} {own[key]}, there {first[key]}"
