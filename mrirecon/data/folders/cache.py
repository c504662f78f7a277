"""Keep what checks found of files between commands, so that a file that has not changed is not read again.

One JSON file per folder of data and kind of check, in `mrirecon/` of the user's cache folder (XDG_CACHE_HOME, else
~/.cache). It may go at any time; what is damaged, of another version of this package, or cannot be written is ignored.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py

import mrirecon
from mrirecon.data.hdf5.limits import is_cache_on, slice_limit
from mrirecon.data.hdf5.quarantine import Found
from mrirecon.data.volume import Volume
from mrirecon.files import write_text

_TICK_S = 2.0  # file systems may count time in steps of so much: what changed just now may change unseen


def cache_folder() -> Path | None:
    """Return the folder of the cache; None: nothing is kept.

    By the XDG Base Directory Specification, https://specifications.freedesktop.org/basedir-spec/latest/.
    """
    if not is_cache_on():
        return None
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"  # noqa: PTH117 - of a string
    except RuntimeError:  # there is no home
        return None
    return base / "mrirecon"


class Known:
    """The findings of one kind of check about some volumes, from this command and from earlier ones.

    A file is the same as long as its size, its times and its inode are; that of its last change (`ctime`) is the
    system's own, and a copy that keeps the others has a new one.

    Args:
        volumes: Files, of any folders.
        kind: Name of the check.
    """

    def __init__(self, volumes: Sequence[Volume], kind: str) -> None:
        self.found: dict[int, Found] = {}  # by the number of the volume
        self._files: list[Path] = []  # of the cache, for each volume
        self._new: dict[Path, dict[str, Any]] = {}
        self._began = time.time()
        base = cache_folder()
        if base is None:
            return
        self._paths = [volume.path for volume in volumes]
        self._states = [_state(path) for path in self._paths]
        kinds = {(volume.path.parent, type(volume)) for volume in volumes}
        files = {one: base / _file_name(*one, kind) for one in kinds}
        self._files = [files[volume.path.parent, type(volume)] for volume in volumes]
        stored = {file: _read(file) for file in files.values()}
        for i, (file, path, state) in enumerate(zip(self._files, self._paths, self._states, strict=True)):
            entry = stored[file].get(path.name)
            if entry and state and entry["state"] == state:
                self.found[i] = entry["found"]

    def add(self, i: int, found: Found) -> None:
        """Note what was found of volume `i`, unless it changed just now or meanwhile."""
        if not self._files:
            return
        path, state = self._paths[i], self._states[i]
        if state and max(state[2:]) < (self._began - _TICK_S) * 1e9 and _state(path) == state:
            self._new.setdefault(self._files[i], {})[path.name] = {"state": state, "found": found}

    def save(self) -> None:
        """Write what was noted beside what others wrote meanwhile."""
        for file, entries in self._new.items():
            with suppress(OSError):
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # names of patients are nobody else's
                _write(file, _read(file) | entries)
        self._new = {}


def _file_name(folder: Path, kind_of_volume: type, kind: str) -> str:
    """Return the cache file of a folder, by full path and inode: nodes of a cluster may differ at one path."""
    inode = _state(folder)[:1]
    name = sha256(f"{folder.absolute()} {inode} {kind_of_volume.__qualname__}".encode()).hexdigest()[:24]
    return f"{name}-{kind}.json"


def _state(path: Path) -> list[int]:
    """Inode, size, times of change; nothing where there is no such file."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read(file: Path) -> dict[str, Any]:
    """Two lines: what wrote it, with the hash of the other; what is known by file name."""
    try:
        if not file.is_file():
            return {}
        head, _, body = file.read_bytes().partition(b"\n")
        wanted = {"made_by": _made_by(), "sha256": sha256(body).hexdigest()}
        return dict(json.loads(body)) if json.loads(head) == wanted else {}
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _write(file: Path, entries: dict[str, Any]) -> None:
    body = json.dumps(entries, separators=(",", ":")) + "\n"
    head = json.dumps({"made_by": _made_by(), "sha256": sha256(body.encode()).hexdigest()})
    write_text(file, f"{head}\n{body}")


def _made_by() -> str:
    return f"{_code()}, slices up to {slice_limit()} GiB"


@cache
def _code() -> str:
    """This package as far as it judges files, and the library that reads them."""
    digest = sha256()
    for folder in ("data", "evaluation"):
        for path in sorted((Path(mrirecon.__file__).parent / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return f"{digest.hexdigest()[:16]} h5py {h5py.__version__} HDF5 {h5py.version.hdf5_version}"
