"""Find everything that is wrong with the files of a split before any work starts."""

from collections.abc import Callable, Sequence

from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, unknown_name
from mrirecon.progress import progress

MODES = ("auto", "full", "quick")
_FULL_SCAN_BYTES = 4 * 2**30  # read in well under a minute from a disk, in seconds from memory
_MANY_FILES, _MANY_BYTES = 100, 2**28  # from here on it takes seconds, and progress is shown
_SHOWN = 5


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
    _collect(unsearched, _scan_all if full else _scan_middle, "samples", is_long=size > _MANY_BYTES)
    if full:
        return None
    return f"{size / 2**30:.0f} GiB: only the middle slice of each file was searched for NaN (all slices: --check full)"


def check_layout(volumes: Sequence[Volume]) -> None:
    """Check the structure of every file without reading its samples.

    Raises:
        InputError: One line per bad file, at most five, and how many there are.
    """
    unread = [volume for volume in volumes if not volume.is_read]
    if unread:
        _collect(unread, lambda volume: volume.facts, "files", is_long=len(unread) > _MANY_FILES)


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


def _collect(volumes: Sequence[Volume], look: Callable[[Volume], object], label: str, is_long: bool) -> None:
    faults = []
    for volume in progress(volumes, f"checking {label}", unit="file") if is_long else volumes:
        try:
            look(volume)
        except InputError as error:
            faults.append(str(error))
    if len(faults) > _SHOWN:
        faults[_SHOWN:] = [f"... {len(faults)} of {len(volumes)} files are bad"]
    if faults:
        raise InputError("\n".join(faults))


def _scan_all(volume: Volume) -> None:
    for i in range(volume.n_slices):
        volume.kspace(i)
    _ = volume.data_range  # reads every slice of the reference
    volume.n_searched = volume.n_slices


def _scan_middle(volume: Volume) -> None:
    middle = volume.n_slices // 2
    volume.kspace(middle)
    if volume.has_target:
        volume.target(middle)
    volume.n_searched = 1
