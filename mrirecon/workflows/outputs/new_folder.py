"""A folder of results appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrirecon import ranks
from mrirecon.errors import InputError
from mrirecon.files import naming


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
    temporary.mkdir()
    try:
        with naming(folder):
            yield temporary
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
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
