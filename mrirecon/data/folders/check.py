"""Find everything that is wrong with the files of a split before any work starts.

Bad files are told in one line each, or in one per cause that many share, at most five. What was found is
remembered between commands.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import mrirecon
from mrirecon import ranks
from mrirecon.data.folders.reference_check import Disagreement, find_disagreement
from mrirecon.data.hdf5.limits import GIB, is_cache_on, slice_limit
from mrirecon.data.hdf5.opening import readable
from mrirecon.data.hdf5.quarantine import SAMPLES, STRUCTURE, Alive, Found, Job, examine
from mrirecon.data.hdf5.soundness import samples_sha256, slice_hash
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, unknown_name
from mrirecon.files import write_text
from mrirecon.progress import progress

MODES = ("auto", "full", "quick", "none")
REFERENCE_CHECKS = ("refuse", "warn", "off")
_FULL_SCAN_BYTES = 4 * GIB  # read in well under a minute from a disk, in seconds from memory
_MANY_FILES, _MANY_BYTES = 100, 2**28  # from here on it takes seconds, and progress is shown
_SHOWN = 5  # lines on bad files
_SLICES_IN_MEMORY = 8  # of complex64: values as stored, their parts, conversions


def check_volumes(volumes: Sequence[Volume], mode: str = "auto", references: str = "refuse") -> list[str]:
    """Check structure and samples of every file; what was found sound before is not read again.

    In a group of processes each calls this; the first one reads and hands on what it found.

    Args:
        volumes: The files of one split.
        mode: full: every slice is read in search of NaN and infinity; quick: the middle one;
            auto: full up to 4 GiB in all, else quick; none: of k-space the middle slice, which says where samples are,
            and no reference.
        references: What happens to files whose reference and k-space do not belong together, as the middle slice shows,
            in a full check the first one too (see `agreement`). refuse: those that are surely wrong are refused,
            doubtful ones noted; warn: all are noted; off: nothing is said of them.

    Returns:
        Notes: of samples that were left unread, of k-space and references that do not fit.

    Raises:
        InputError: One line per bad file, at most five, and how many there are.
    """
    for kind, name, known in (("check", mode, MODES), ("reference check", references, REFERENCE_CHECKS)):
        if name not in known:
            raise unknown_name(kind, name, known)
    check_layout(volumes)
    size = sum(volume.facts.n_bytes for volume in volumes)
    if mode == "auto":
        mode = "full" if size <= _FULL_SCAN_BYTES else "quick"
    unsearched = [volume for volume in volumes if not _is_searched(volume, mode)]
    jobs = [_reading(volume, partial(_SCANS[mode], volume)) for volume in unsearched]
    _examine(unsearched, jobs, mode, "samples", is_long=size > _MANY_BYTES)
    notes = [] if references == "off" else _disagreements(volumes, refuse=references == "refuse")
    uneven = [volume for volume in volumes if volume.sampling.uneven_slice >= 0]
    if uneven:
        notes.append(
            f"{uneven[0].name}: its slices are sampled differently, slice {uneven[0].sampling.uneven_slice} has fewer "
            "samples than others; what is said of its mask and its true acceleration is of all slices together "
            f"({len(uneven)} of {len(volumes)} files)"
        )
    if mode == "quick":
        notes.append(
            f"{size / 2**30:.0f} GiB: only the middle slice of each file was searched for NaN "
            "(all slices: --check full)"
        )
    elif mode == "none":
        notes.append("no samples were searched for NaN, and no references compared with k-space (--check none)")
    return notes


def _disagreements(volumes: Sequence[Volume], refuse: bool) -> list[str]:
    """One line for each kind, with its first file and how many there are.

    Raises:
        InputError: `refuse`, and one is certain.
    """
    by_kind: dict[str, list[tuple[Volume, Disagreement]]] = {}
    for volume in volumes:
        if found := volume.disagreement:
            by_kind.setdefault(found.kind, []).append((volume, found))
    notes, faults = list[str](), list[str]()
    for files in by_kind.values():
        volume, found = files[0]
        line = f"{volume.name}: {found.text} ({len(files)} of {len(volumes)} files)"
        (faults if refuse and found.is_certain else notes).append(line)
    if faults:
        faults[-1] += "; if it is meant so: --data.check-reference warn, or off"
        raise InputError("\n".join(faults))
    return notes


def check_layout(volumes: Sequence[Volume]) -> None:
    """Check the structure of every file without reading its samples.

    Raises:
        InputError: One line per bad file, at most five, and how many there are.
    """
    unread = [volume for volume in volumes if not volume.is_read]
    jobs = [Job(volume.name, partial(_describe, volume), STRUCTURE) for volume in unread]
    _examine(unread, jobs, "layout", "files", is_long=len(unread) > _MANY_FILES)


def fingerprints(volumes: Sequence[Volume]) -> dict[str, tuple[str, str]]:
    """The patient and the `Volume.fingerprint` of each file by name, as this very process sees them.

    Raises:
        InputError: One line per bad file, at most five, and how many there are.
    """
    jobs = [_reading(volume, partial(_fingerprint, volume)) for volume in volumes]
    found = dict(_looked_at(volumes, jobs, "content", "contents", is_long=len(volumes) > _MANY_FILES))
    return {volume.name: (found[i]["patient"], found[i]["fingerprint"]) for i, volume in enumerate(volumes)}


def check_slices(volumes: Sequence[Volume], slices: Sequence[int] | None) -> list[range]:
    """The slices used of each volume: all, or `first` to `last`, both included.

    Raises:
        InputError: Not two numbers, or a slice that a volume does not have.
    """
    if not slices:
        return [range(volume.n_slices) for volume in volumes]
    if len(slices) != 2 or not 0 <= slices[0] <= slices[1]:
        raise InputError(f"slices {list(slices)}: give the first and the last one, counted from 0 (--slices 10 25)")
    first, last = slices
    for volume in volumes:
        if last >= volume.n_slices:
            raise InputError(
                f"{volume.name} has slices 0 to {volume.n_slices - 1}, not {first} to {last}; choose a smaller range"
            )
    return [range(first, last + 1)] * len(volumes)


def _examine(volumes: Sequence[Volume], jobs: Sequence[Job], kind: str, label: str, is_long: bool) -> None:
    """Do the job of each volume, which learns what was found; of a group's processes the first one does them for all.

    Raises:
        InputError: See `each_examined`.
    """
    for i, found in ranks.stream_from_first(lambda: _looked_at(volumes, jobs, kind, label, is_long)):
        volumes[i].learn(found)


def _looked_at(
    volumes: Sequence[Volume], jobs: Sequence[Job], kind: str, label: str, is_long: bool
) -> Iterator[tuple[int, Found]]:
    """Yield the findings of each volume with its number: those known from an earlier command, then the rest.

    Raises:
        InputError: See `each_examined`.
    """
    known = Known(volumes, kind)
    yield from known.found.items()
    new = [i for i in range(len(volumes)) if i not in known.found]
    try:
        for k, found in each_examined([jobs[i] for i in new], label, is_long and len(new) > 0):
            known.add(new[k], found)
            yield new[k], found
    finally:  # what was found stays known, also where another file is bad
        known.save()


def _is_searched(volume: Volume, mode: str) -> bool:
    if mode == "none":
        return "sampling" in volume.__dict__
    return volume.n_searched >= (volume.n_slices if mode == "full" else 1)


def _describe(volume: Volume, _alive: Alive) -> Found:
    return {"facts": volume.describe().to_plain()}


def _fingerprint(volume: Volume, _alive: Alive) -> Found:
    own = copy(volume)
    own.__dict__.pop("facts", None)  # the first process read them of the file that it sees
    return {"patient": own.patient, "fingerprint": own.fingerprint()}


def _reading(volume: Volume, look: Callable[[Alive], Found]) -> Job:
    """A job that has some slices in memory."""
    _, coils, height, width = volume.shape
    return Job(volume.name, look, SAMPLES, GIB + _SLICES_IN_MEMORY * coils * height * width * 8)


def _scan_all(volume: Volume, alive: Alive) -> Found:
    kspace, targets = _Kept({0, volume.n_slices // 2}, alive), _Kept({0, volume.n_slices // 2}, alive)
    sampling = volume.search_sampling(kspace, read_all=True)
    largest = volume.search_target(targets) if volume.has_target else 0.0
    found = find_disagreement(kspace.slices, targets.slices, volume.image_shape, not sampling.has_gaps)
    return {
        "sampling": sampling.to_plain(),
        "data_range": largest,
        "disagreement": found,
        "n_searched": volume.n_slices,
        "samples_sha256": samples_sha256(kspace.hashes, targets.hashes, volume.n_slices),
    }


def _scan_middle(volume: Volume, alive: Alive) -> Found:
    middle = volume.n_slices // 2
    kspace = _Kept({middle}, alive)
    sampling = volume.search_sampling(kspace)
    targets = {middle: volume.target(middle)} if volume.has_target else {}
    found = find_disagreement(kspace.slices, targets, volume.image_shape, not sampling.has_gaps)
    hashes = samples_sha256(kspace.hashes, {i: slice_hash(values) for i, values in targets.items()}, volume.n_slices)
    return {"sampling": sampling.to_plain(), "disagreement": found, "n_searched": 1, "samples_sha256": hashes}


def _scan_none(volume: Volume, alive: Alive) -> Found:
    return {"sampling": volume.search_sampling(lambda _i, _values: alive()).to_plain()}


_SCANS = {"full": _scan_all, "quick": _scan_middle, "none": _scan_none}


class _Kept:
    """Keeps some of the slices that are read, the hashes of all, and says that work goes on."""

    def __init__(self, wanted: set[int], alive: Alive) -> None:
        self.wanted, self.alive, self.slices = wanted, alive, dict[int, np.ndarray]()
        self.hashes = dict[int, bytes]()

    def __call__(self, i: int, values: np.ndarray) -> None:
        if i in self.wanted:
            self.slices[i] = values
        self.hashes[i] = slice_hash(values)
        self.alive()


def examine_all(
    jobs: Sequence[Job], learn: Callable[[int, Found], None], label: str, is_long: bool, in_one_line: bool = False
) -> None:
    """Do all `jobs` in quarantine and hand on what was found; see `each_examined`.

    Args:
        jobs: One per file.
        learn: Gets the number of each sound file's job and what was found.
        label: What is checked, for the display of progress.
        is_long: Show progress.
        in_one_line: Show the first bad file only, and how many there are.
    """
    for i, found in each_examined(jobs, label, is_long, in_one_line):
        learn(i, found)


def each_examined(
    jobs: Sequence[Job], label: str, is_long: bool, in_one_line: bool = False
) -> Iterator[tuple[int, Found]]:
    """Do all `jobs` in quarantine; yields the number of each sound file's job and what was found, as it is known.

    Raises:
        InputError: At the end, one line per bad file; files that share a cause share a line where they are more than
            five.
    """
    faults: list[tuple[str, str]] = []
    numbers = range(len(jobs))
    shown = progress(numbers, f"checking {label}", unit="files") if is_long else numbers
    for i, found in zip(shown, examine(jobs), strict=True):
        if isinstance(found, InputError):
            name, text = readable(jobs[i].label), str(found)
            faults.append((name if text.startswith(f"{name}: ") else "", text))
        else:
            yield i, found
    if not faults:
        return
    bad = f"{len(faults)} of {len(jobs)} files are bad"
    if in_one_line:
        raise InputError(faults[0][1] + (f" ({bad})" if len(faults) > 1 else ""))
    lines = _lines(faults)
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"... {bad}"]
    raise InputError("\n".join(lines))


def _lines(faults: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line per (name, text that begins with it); more than five that differ in the name alone share one."""
    names = defaultdict[str, list[str]](list)
    for name, text in faults:
        names[text.removeprefix(name)].append(name)
    lines = []
    for name, text in faults:
        alike = names[text.removeprefix(name)]
        if len(alike) <= _SHOWN or not name:
            lines.append(text)
        elif name == alike[0]:
            others = f" (and {', '.join(alike[1:_SHOWN])}, {len(alike) - _SHOWN} more)"
            lines.append(f"{name}{others}{text.removeprefix(name)}")
    return lines


# ---- keep what checks found of files between commands, so that a file that has not changed is not read again
#
# One JSON file per folder of data and kind of check, in `mrirecon/` of the user's cache folder (XDG_CACHE_HOME, else
# ~/.cache). It may go at any time; what is damaged, of another version of this package, or cannot be written is
# ignored.


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
                body = json.dumps(_read(file) | entries, separators=(",", ":")) + "\n"
                head = json.dumps({"made_by": _made_by(), "sha256": sha256(body.encode()).hexdigest()})
                write_text(file, f"{head}\n{body}")
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
