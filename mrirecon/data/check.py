"""Find everything that is wrong with the files of a split before any work starts."""

from collections.abc import Sequence
from functools import partial

from mrirecon.data.facts import Facts
from mrirecon.data.faults import examine_all
from mrirecon.data.limits import GIB
from mrirecon.data.quarantine import SAMPLES, STRUCTURE, Alive, Found, Job
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, unknown_name

MODES = ("auto", "full", "quick")
_FULL_SCAN_BYTES = 4 * GIB  # read in well under a minute from a disk, in seconds from memory
_MANY_FILES, _MANY_BYTES = 100, 2**28  # from here on it takes seconds, and progress is shown
_SLICES_IN_MEMORY = 8  # of complex64: values as stored, their parts, conversions


def check_volumes(volumes: Sequence[Volume], mode: str = "auto") -> str | None:
    """Check structure and samples of every file; what was found sound before is not read again.

    Args:
        volumes: The files of one split.
        mode: full: every slice is read in search of NaN and infinity; quick: the middle one;
            auto: full up to 4 GiB in all, else quick.

    Returns:
        A note when samples were left unread, else None.

    Raises:
        InputError: One line per bad file, at most five, and how many there are.
    """
    if mode not in MODES:
        raise unknown_name("check", mode, MODES)
    check_layout(volumes)
    size = sum(volume.facts.n_bytes for volume in volumes)
    full = mode == "full" or (mode == "auto" and size <= _FULL_SCAN_BYTES)
    unsearched = [volume for volume in volumes if volume.n_searched < (volume.n_slices if full else 1)]
    jobs = [_search(volume, full) for volume in unsearched]
    examine_all(jobs, lambda i, found: _learn(unsearched[i], found), "samples", is_long=size > _MANY_BYTES)
    if full:
        return None
    return f"{size / 2**30:.0f} GiB: only the middle slice of each file was searched for NaN (all slices: --check full)"


def check_layout(volumes: Sequence[Volume]) -> None:
    """Check the structure of every file without reading its samples.

    Raises:
        InputError: One line per bad file, at most five, and how many there are.
    """
    unread = [volume for volume in volumes if not volume.is_read]
    jobs = [Job(volume.name, partial(_describe, volume), STRUCTURE) for volume in unread]
    examine_all(jobs, lambda i, found: _learn(unread[i], found), "files", is_long=len(unread) > _MANY_FILES)


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


def _describe(volume: Volume, _alive: Alive) -> Found:
    return {"facts": volume.describe().to_plain()}


def _search(volume: Volume, full: bool) -> Job:
    _, coils, height, width = volume.shape
    memory = GIB + _SLICES_IN_MEMORY * coils * height * width * 8
    return Job(volume.name, partial(_scan_all if full else _scan_middle, volume), SAMPLES, memory)


def _scan_all(volume: Volume, alive: Alive) -> Found:
    for i in range(volume.n_slices):
        volume.kspace(i)
        alive()
    largest = volume.search_target(alive) if volume.has_target else 0.0
    return {"data_range": largest, "n_searched": volume.n_slices}


def _scan_middle(volume: Volume, alive: Alive) -> Found:
    middle = volume.n_slices // 2
    volume.kspace(middle)
    alive()
    if volume.has_target:
        volume.target(middle)
    return {"n_searched": 1}


def _learn(volume: Volume, found: Found) -> None:
    if "facts" in found:
        found = {"facts": Facts.from_plain(found["facts"])}
    volume.__dict__.update(found)  # where its cached properties look first
