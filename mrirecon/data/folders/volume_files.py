"""Find the volumes of a folder, share them between the works of one process, or copy their files to its node.

Shared, each file is opened, understood and checked once.
"""

import copy
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from mrirecon import ranks
from mrirecon.data.hdf5.opening import FileState, close
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.progress import say

_Key = tuple[Path, Path | None]  # file, root of its name


_shared: dict[_Key, Volume] | None = None  # None: nothing is shared


@contextmanager
def sharing_volumes() -> Iterator[None]:
    """Within it, every training and evaluation of this process gets the same `Volume` of a file.

    What a volume knows (its facts, its data range, that its samples were searched for NaN) then is read once. A file
    that changed since, by size or time, gets a new volume; listing and splitting a folder is done anew each time.
    """
    global _shared  # noqa: PLW0603 - the table belongs to one process
    outer, _shared = _shared, {} if _shared is None else _shared
    try:
        yield
    finally:
        _shared = outer


def volume_of(path: Path, root: Path | None = None) -> Volume:
    """The volume of a file, named relative to `root`; within `sharing_volumes` the one that is there already."""
    if _shared is None:
        return Volume(path, root)
    known = _shared.get((path, root))
    if known is None or known.state != FileState.of(path):
        close(path)  # the handle may be of the file that stood there before
        known = _shared[path, root] = Volume(path, root)
    return known


SPLITS = ("train", "val", "test")
_OWN = re.compile(r"^(?P<split>train|val|test)$")
_FASTMRI = re.compile(r"^(?:.*_)?(?P<kind>single|multi)coil_(?P<split>train|val|test)(?:_.*)?$")
SIMULATE = "or make a simulated set: mrirecon data simulate OUT"


def h5_files(folder: Path) -> list[Path]:
    """The visible `.h5` entries of a folder, by name; anything else is left alone."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".h5" and not path.name.startswith("."))


def split_folders(root: Path, coils: str) -> dict[str, list[Path]]:
    """The folders of each split, by name; of fastMRI's own names one kind of coils."""
    found = []
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        match = _OWN.match(path.name) or _FASTMRI.match(path.name)
        if match:
            found.append((match["split"], match.groupdict().get("kind"), path))
    kinds = {kind for _, kind, _ in found if kind}
    if len(kinds) > 1 and coils == "auto":
        names = ", ".join(path.name for *_, path in found)
        raise InputError(
            f"{root} has single-coil and multi-coil folders ({names}); choose: --coils single, multi or both"
        )
    if len(kinds) > 1 and coils != "both":
        found = [entry for entry in found if entry[1] in (None, coils)]
    groups: dict[str, list[Path]] = {}
    for split in SPLITS:
        paths = [path for name, _, path in found if name == split]
        if paths:
            groups[split] = paths
    return groups


def require_flat_or_split(folder: Path, groups: dict[str, list[Path]]) -> None:
    """Raise an InputError where `folder` has `.h5` files beside its split folders, `groups` of `split_folders`."""
    if groups and h5_files(folder):
        inside = next(iter(groups.values()))[0].name
        raise InputError(
            f"{folder} has both .h5 files and split folders ({inside}/); give one of the folders, or move the files "
            "into one"
        )


def flat_or_split_files(folder: Path) -> list[Path]:
    """List the `.h5` files of a folder, or else those of all of its split folders; empty where there are none.

    Raises:
        InputError: It has both.
    """
    groups = split_folders(folder, "both")
    require_flat_or_split(folder, groups)
    return h5_files(folder) or [file for paths in groups.values() for path in paths for file in h5_files(path)]


def require_folder(folder: Path) -> None:
    """Raise an InputError unless `folder` is a directory."""
    if folder.is_file():
        raise InputError(f"{folder} is a file; give the folder that holds the .h5 files: --data {folder.parent}")
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give a folder of fastMRI .h5 files (--data DIR), {SIMULATE}")


def list_volumes(folder: Path, root: Path | None = None) -> list[Volume]:
    """The volumes that stand directly in `folder`, named relative to `root` (itself when left out).

    Raises:
        InputError: No such folder, or none of its files is a `.h5` file.
    """
    require_folder(folder)
    volumes = [volume_of(path, root or folder) for path in h5_files(folder)]
    if not volumes:
        raise InputError(f"no .h5 file in {folder}; give a folder of fastMRI files (--data DIR), {SIMULATE}")
    return volumes


# ---- node-local copies of the files that a command reads: made and verified once on each node, removed at its end


_BLOCK = 1 << 23
_stage: Path | None = None  # this command's folder on this node; None: nothing is staged


@contextmanager
def staging(folder: str) -> Iterator[None]:
    """Within it, `staged` copies to a folder of its own below `folder`, which is removed at the end; empty: nothing is.

    Variables such as $TMPDIR are those of the node. All processes of a group call this; the first one of each node
    copies and removes.

    Raises:
        InputError: `folder` is no folder that can be written to.
    """
    global _stage  # noqa: PLW0603 - it belongs to one process
    if not folder:
        yield
        return
    place = os.path.expandvars(folder)
    if "$" in place:
        raise InputError(f"--data.stage {folder} names a variable that is not set here; name a local folder")
    token = ranks.from_first(lambda: uuid4().hex[:12])
    # a node's own name, should the folder be one that nodes share
    _stage = Path(place).absolute() / f"mrirecon-{token}-{os.environ.get('SLURMD_NODENAME') or socket.gethostname()}"
    try:
        if _copies():
            try:
                _stage.mkdir(mode=0o700)
            except OSError as error:
                raise InputError(
                    f"cannot write to --data.stage {place}: {error.strerror}; name another folder"
                ) from None
        ranks.barrier()
        yield
        ranks.barrier()  # nobody reads any more
    finally:
        if _copies():
            shutil.rmtree(_stage, ignore_errors=True)
        _stage = None


def staged(volumes: Sequence[Volume]) -> list[Volume]:
    """These volumes, read from copies with their names, sizes and times of change; outside of `staging` themselves.

    Raises:
        InputError: There is no room for them.
        WorkFailedError: A copy is not what was read, or a file changed meanwhile.
    """
    if _stage is None:
        return list(volumes)
    places = [_stage / volume.name for volume in volumes]
    if _copies():
        missing = [(volume, place) for volume, place in zip(volumes, places, strict=True) if not place.exists()]
        needed = sum(volume.path.stat().st_size for volume, _ in missing)
        free = shutil.disk_usage(_stage).free
        if needed > free:
            raise InputError(
                f"--data.stage {_stage.parent} has {free / 2**30:.1f} GiB free, the files take {needed / 2**30:.1f}; "
                "name a larger folder, or leave it out"
            )
        for volume, place in missing:
            _copy(volume, place)
        if missing:
            say(f"staged      {len(missing)} files, {needed / 2**30:.2f} GiB, in {_stage}")
    ranks.barrier()
    found = [copy.copy(volume) for volume in volumes]
    for volume, place in zip(found, places, strict=True):
        volume.path = place
    return found


def _copies() -> bool:
    """This process is the first one of its node."""
    return not ranks.in_group() or os.environ.get("LOCAL_RANK", "0") == "0"


def _copy(volume: Volume, place: Path) -> None:
    """A copy that is read back, with the times of the file, which say that it is the same."""
    before = volume.path.stat()
    place.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    close(volume.path)
    try:
        with volume.path.open("rb") as source, place.open("xb") as target:
            while block := source.read(_BLOCK):
                digest.update(block)
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
        os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
        with place.open("rb") as handle:
            is_same = hashlib.file_digest(handle, "sha256").digest() == digest.digest()
    except OSError as error:
        raise WorkFailedError(f"{volume.name} cannot be copied to {place.parent}: {error.strerror}") from None
    after = volume.path.stat()
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise WorkFailedError(f"{volume.path} changed while it was copied; wait until it is written, then start again")
    if not is_same:
        raise WorkFailedError(f"the copy {place} is not what was read; name another folder as --data.stage")
