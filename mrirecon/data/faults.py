"""What is wrong with many files: one line per bad one, at most five, and how many there are."""

from collections.abc import Callable, Sequence

from mrirecon.data.quarantine import Found, Job, examine
from mrirecon.errors import InputError
from mrirecon.progress import progress

_SHOWN = 5


def examine_all(
    jobs: Sequence[Job], learn: Callable[[int, Found], None], label: str, is_long: bool, in_one_line: bool = False
) -> None:
    """Do all `jobs` in quarantine and hand on what was found.

    Args:
        jobs: One per file.
        learn: Gets the number of each sound file's job and what was found.
        label: What is checked, for the display of progress.
        is_long: Show progress.
        in_one_line: Show the first bad file only, and how many there are.

    Raises:
        InputError: One line per bad file.
    """
    faults = []
    numbers = range(len(jobs))
    shown = progress(numbers, f"checking {label}", unit="files") if is_long else numbers
    for i, found in zip(shown, examine(jobs), strict=True):
        if isinstance(found, InputError):
            faults.append(str(found))
        else:
            learn(i, found)
    if in_one_line and len(faults) > 1:
        faults = [f"{faults[0]} ({len(faults)} of {len(jobs)} files are bad)"]
    if len(faults) > _SHOWN:
        faults[_SHOWN:] = [f"... {len(faults)} of {len(jobs)} files are bad"]
    if faults:
        raise InputError("\n".join(faults))
