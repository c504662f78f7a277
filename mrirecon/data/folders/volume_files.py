"""Which files of a folder are volumes."""

from pathlib import Path

from mrirecon.data.folders.shared_volumes import volume_of
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError

SIMULATE = "or make a simulated set: mrirecon data simulate OUT"


def h5_files(folder: Path) -> list[Path]:
    """The visible `.h5` entries of a folder, by name; anything else is left alone."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".h5" and not path.name.startswith("."))


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
