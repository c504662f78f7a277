"""What files that stand where output shall go say of themselves; anybody may have put them there."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mrirecon.data.hdf5.description import plain_value, read_attributes
from mrirecon.data.hdf5.opening import open_to_read
from mrirecon.data.hdf5.quarantine import Alive, Found, Job, examine
from mrirecon.errors import InputError


class FileThere(NamedTuple):
    """A file as it describes itself; nothing where it is damaged or something else."""

    facts: dict[str, str]
    has_kspace: bool


def describe_files(paths: Iterable[Path]) -> dict[Path, FileThere]:
    """The `.h5` and `.png` files among `paths` that exist, each read in quarantine."""
    there = [path for path in paths if path.is_file()]
    found = examine([Job(path.name, partial(_describe, path)) for path in there])
    return {path: _understood(answer) for path, answer in zip(there, found, strict=True)}


def _understood(answer: Found | InputError) -> FileThere:
    return FileThere({}, False) if isinstance(answer, InputError) else FileThere(**answer)


def _describe(path: Path, _alive: Alive) -> Found:
    facts, has_kspace = {}, False
    try:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                facts = {str(key): str(plain_value(value)) for key, value in picture.info.items()}
        else:
            with open_to_read(path) as file:
                has_kspace = "kspace" in list(file)  # `in file` would follow a link
                facts = {key: str(value) for key, value in read_attributes(file).items()}
    except (Exception, SystemError):  # a damaged file makes h5py and Pillow raise anything
        facts = {}
    return {"facts": facts, "has_kspace": has_kspace}
