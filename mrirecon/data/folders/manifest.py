"""Tell whether files are still, or elsewhere, those that a run began with.

While it runs, by size and time of change; later, by a record of each file (a row of a CSV file); between processes on
several nodes, by content; and in the record of a run by one hash. A copy has other times of change and the same
content, an edited file has other content: so the hashes decide.
"""

import csv
import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from mrirecon import ranks
from mrirecon.data.folders.check import fingerprints
from mrirecon.data.hdf5.opening import FileState
from mrirecon.data.volume import Volume
from mrirecon.errors import DataChangedError, InputError
from mrirecon.files import replacing

_HEX = 16  # of a hash: it is to tell an edited file, and nobody forges his own data


def require_unchanged(volumes: Iterable[Volume]) -> None:
    """Compare size and time of change of every file with those before it was checked; all processes of a group call it.

    Raises:
        DataChangedError: A file is not what it was, for this process or for another one; all raise the same.
    """
    own = ""
    try:
        for volume in volumes:
            volume.require_unchanged()
    except DataChangedError as error:
        own = str(error)
    if found := ranks.first_said(own):
        raise DataChangedError(found)


@dataclass(frozen=True)
class Row:
    """One file: `middle` and `all` are hashes of the samples, `all` empty where the check has not read all of them."""

    volume: str
    bytes: int
    changed_ns: int
    about: str  # hash of header, mask and attributes
    middle: str
    all: str

    @classmethod
    def of(cls, volume: Volume) -> "Row":
        """The row of a volume, as it was checked; reads the middle slice if nobody has."""
        facts = volume.facts
        about = sha256(facts.header.to_xml())
        about.update(b"" if facts.file_mask is None else facts.file_mask.tobytes())
        about.update(repr(sorted(facts.attrs.items())).encode())
        middle, whole = volume.samples_sha256
        return cls(volume.name, *volume.state, about.hexdigest()[:_HEX], middle[:_HEX], whole[:_HEX])

    def difference(self, now: "Row") -> str:
        """In what a file is another one now, as the end of a sentence; empty: it is the same."""
        if self.bytes != now.bytes:
            return f"had {self.bytes} bytes and has {now.bytes}"
        if self.about != now.about:
            return f"has another header, mask or attributes than then{self._when(now)}"
        both = bool(self.all and now.all)
        if (self.all != now.all) if both else (self.middle != now.middle):
            return f"has other samples than then{self._when(now)}"
        return ""

    def _when(self, now: "Row") -> str:
        """An edit keeps the time of change only where somebody sets it back."""
        states = FileState(self.bytes, self.changed_ns), FileState(now.bytes, now.changed_ns)
        return "" if states[0] == states[1] else f" (last written at {states[1].changed}, then at {states[0].changed})"


def write_record(path: Path, volumes: Sequence[Volume]) -> None:
    """Write the record of checked volumes."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Row))
        writer.writerows(asdict(Row.of(volume)).values() for volume in volumes)


def read_record(path: Path) -> list[Row]:
    """The rows of a record.

    Raises:
        InputError: It is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                Row(row["volume"], int(row["bytes"]), int(row["changed_ns"]), row["about"], row["middle"], row["all"])
                for row in csv.DictReader(file)
            ]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); restore it from a copy") from None
    return rows


def first_difference(recorded: Sequence[Row], volumes: Sequence[Volume]) -> str:
    """Return the first file that is not as recorded, in what, and how many there are; empty: all are as recorded."""
    now = {volume.name: Row.of(volume) for volume in volumes}
    then = {row.volume: row for row in recorded}
    found = [f"{name} is not there any more" for name in then if name not in now]
    found += [f"{name} is new" for name in now if name not in then]
    found += [f"{name} {how}" for name, row in then.items() if name in now and (how := row.difference(now[name]))]
    if not found:
        return ""
    return f"{found[0]} ({len(found)} of {len(then | now)} files)"


def half_known(recorded: Sequence[Row], volumes: Sequence[Volume]) -> int:
    """Count the files that were written since and may differ unseen, as not all of their samples were read."""
    then = {row.volume: row for row in recorded}
    known = [(then[volume.name], Row.of(volume)) for volume in volumes if volume.name in then]
    return sum(row.changed_ns != now.changed_ns and not (row.all and now.all) for row, now in known)


def samples_of(volumes: Sequence[Volume]) -> list[str]:
    """Two hashes of checked volumes: of their middle slices, and of all samples, empty unless all were read."""
    rows = sorted((row.volume, row.middle, row.all) for row in map(Row.of, volumes))
    middle, whole = (sha256(repr([(row[0], row[i]) for row in rows]).encode()).hexdigest()[:_HEX] for i in (1, 2))
    return [middle, whole if all(row[2] for row in rows) else ""]


def are_others(samples: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether two results of `samples_of` are of different samples, as far as both tell."""
    known = [(one, other) for one, other in zip(samples, others, strict=True) if one and other]
    return any(one != other for one, other in known)


_Row = dict[str, Any]


def data_manifest(volumes: Sequence[Volume]) -> dict[str, Any]:
    """Number of volumes and the SHA-256 over their sorted (name, bytes, k-space shape, bytes of samples, header)."""
    rows = sorted(
        [v.name, v.path.stat().st_size, list(v.shape), v.facts.n_bytes, sha256(v.header.to_xml()).hexdigest()]
        for v in volumes
    )
    digest = sha256(json.dumps(rows).encode()).hexdigest()
    return {"n_volumes": len(rows), "sha256": digest}


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
