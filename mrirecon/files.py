"""Files appear whole or not at all: write under a temporary name, then rename. What is read may be a stranger's."""

import csv
import errno
import io
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from mrirecon import ranks
from mrirecon.errors import InputError

_MOST_JSON, _MOST_TABLE = 2**24, 2**26  # bytes; the split of 10,000 volumes has 1 MB, their scores 3 MB
_MOST_LEVELS = 50


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Around what writes to `path`: the error of a full disk, which names no file, names this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = os.fspath(path)
        raise


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync and rename it to `path`, on failure delete it.

    Renaming is atomic (https://pubs.opengroup.org/onlinepubs/9699919799/functions/rename.html): a reader finds the old
    file or the new one.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        with naming(final):
            yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically.

    NaN and infinity, which JSON has not (RFC 8259, 2017), raise a ValueError.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def is_disk_full(error: BaseException) -> bool:
    """Return whether the file system has no room; h5py and torch wrap the system's error in their own words."""
    said = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    return said or (error.__cause__ is not None and is_disk_full(error.__cause__))


@contextmanager
def open_plain(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """Open a file to read, without waiting for anybody: pipes, devices and sockets may never begin or end.

    With O_NONBLOCK the opening of a pipe does not wait for a writer
    (https://pubs.opengroup.org/onlinepubs/9699919799/functions/open.html).

    Raises:
        InputError: It is such a thing.
        OSError: It is missing, is a folder, or may not be read.
    """
    name = Path(path)
    number = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(name))
        if not stat.S_ISREG(mode):
            raise InputError(f"{name} is no ordinary file but a pipe, device or socket; it is not read: remove it")
    except BaseException:
        os.close(number)
        raise
    with os.fdopen(number, "rb") as handle:
        yield handle


def read_plain(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a file of at most so many bytes, which also a file that grows meanwhile cannot exceed.

    Raises:
        InputError: It is larger, or no ordinary file.
        OSError: It is missing or may not be read.
    """
    with open_plain(path) as handle:
        content = handle.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path} has more than {most / 2**20:g} MiB; no run writes that much there: remove it")
    return content


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file of a folder that may be a stranger's.

    Raises:
        InputError: It is no ordinary file, too large or nested too deeply.
        OSError: It is missing or may not be read.
        ValueError: It is no JSON; an InputError is one too.
    """
    text = read_plain(path, _MOST_JSON).decode("utf-8")
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep(path) from None
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [inner for one in level for inner in _inside(one) if isinstance(inner, dict | list)]
        if not level:
            return value
    raise _too_deep(path)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep(path: str | os.PathLike[str]) -> InputError:
    return InputError(f"{path} is nested more than {_MOST_LEVELS} levels deep, as no run writes it; remove it")


def read_table(path: str | os.PathLike[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a CSV file of a folder that may be a stranger's.

    Quotes and commas are those of RFC 4180 (2005); lines may also end in a newline alone. What spreadsheets write is
    read too: a byte-order mark, and semicolons or tabs where the first line has no comma.

    Raises:
        InputError: It is no ordinary file, too large, or no table.
        OSError: It is missing or may not be read.
    """
    content = read_plain(path, _MOST_TABLE)
    try:
        text = content.decode("utf-8-sig")
        first = text.split("\n", 1)[0]
        between = "," if "," in first else next((mark for mark in ";\t" if mark in first), ",")
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=between)
        return list(reader.fieldnames or ()), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV table ({error}); make it anew, or remove it") from None


# ---- a folder of results appears whole or not at all


def require_free(folder: Path, marker: str, overwrite: bool) -> None:
    """Refuse to replace results, unless asked to, and to replace anything else at all.

    Args:
        folder: Where results shall go.
        marker: A file that only folders of such results have.
        overwrite: Results may be replaced.

    Raises:
        InputError: Something is there that must stay.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / marker).is_file():
        raise InputError(f"{folder} holds something else than results; choose another --output")
    if not overwrite:
        raise InputError(f"{folder} is there already; add --overwrite or choose another --output")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; on success it takes the place of `folder`, on failure it goes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    _finish_exchange(folder, old)  # of a process of this number that was killed
    temporary.mkdir()
    try:
        with naming(folder):
            yield temporary
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
    finally:
        _finish_exchange(folder, old)
        shutil.rmtree(temporary, ignore_errors=True)


def _finish_exchange(folder: Path, old: Path) -> None:
    """Remove the results that others have replaced; where none have, as after an interruption, put them back."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def shared_folder(folder: Path) -> Iterator[Path]:
    """`new_folder` of all processes of a group: the first one makes it, and puts it in place when all are done."""
    if not ranks.is_first():
        yield Path(ranks.from_first(str))
        ranks.barrier()
        return
    with new_folder(folder) as temporary:
        yield Path(ranks.from_first(lambda: str(temporary)))
        ranks.barrier()
