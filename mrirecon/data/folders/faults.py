"""What is wrong with many files: one line per bad one, or per cause that many share, at most five."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from mrirecon.data.hdf5.attributes import readable
from mrirecon.data.hdf5.quarantine import Found, Job, examine
from mrirecon.errors import InputError
from mrirecon.progress import progress

_SHOWN = 5


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
    """Of (name, text that begins with it): where more than five differ in their names alone, one line for all."""
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
