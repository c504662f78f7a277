"""Progress with an ETA: a bar on a terminal, a plain line every so often elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from mrirecon import ranks

T = TypeVar("T")
_PLAIN_EVERY_S = 10.0
quiet = False  # set once by the command line (`--quiet`)


def say(line: str) -> None:
    """Print a line about the work to stderr, unless quiet."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def warn(line: str) -> None:
    """Print a line that matters also when quiet; of several processes the first one speaks."""
    if ranks.is_first():
        print(line, file=sys.stderr, flush=True)


def progress(items: Iterable[T], label: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Pass `items` on while showing how far it is."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if quiet:
        return iter(items)
    if sys.stderr.isatty():
        from tqdm import tqdm

        return iter(tqdm(items, desc=label, total=total, unit=unit, dynamic_ncols=True))
    return _plain(items, label, total, unit)


def _plain(items: Iterable[T], label: str, total: int | None, unit: str) -> Iterator[T]:
    start = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= _PLAIN_EVERY_S and done != total:
            last = now
            eta = f", {(now - start) / done * (total - done):.0f} s left" if total else ""
            print(f"{label}: {done}/{total or '?'} {unit}{eta}", file=sys.stderr, flush=True)
    print(f"{label}: {done} {unit} in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
