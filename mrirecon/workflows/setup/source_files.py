"""The files that are to be reconstructed: what the user's words name, and what of them is read."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from mrirecon.data.folders.volume_files import flat_or_split_files
from mrirecon.data.hdf5.description import Facts
from mrirecon.data.mask_choice import stored_mask
from mrirecon.data.volume import Volume
from mrirecon.errors import DataChangedError, InputError
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.report.run_files import read_json

_LIKE = 1.5  # nine of ten random masks of 96 columns have a true acceleration within this factor of the nominal one


class KSpaceVolume(Volume):
    """A volume whose reference gives the size of the image, but whose reference's values nobody needs."""

    def describe(self) -> Facts:
        """Everything but the samples, as if there were no reference."""
        return replace(super().describe(), target_key=None)


def list_sources(files: Sequence[str | os.PathLike[str]]) -> list[Volume]:
    """The volumes of `.h5` files and of folders of them, flat or split (val/, multicoil_test/, ...).

    A file goes by its bare name, a file of a folder by its path relative to that folder.

    Raises:
        InputError: Nothing there, nothing to read in it, or two volumes of one name.
    """
    volumes = [volume for file in files for volume in _volumes(Path(file))]
    if not volumes:
        raise InputError("no files given; name fastMRI .h5 files, or folders of them")
    first: dict[str, Volume] = {}
    for volume in volumes:
        other = first.setdefault(volume.name, volume)
        if other is not volume:
            raise InputError(
                f"{other.path} and {volume.path} are both called {volume.name}; give one of them, the folder that "
                "holds both, or another --output for each"
            )
    return volumes


def _volumes(path: Path) -> list[Volume]:
    if path.is_dir():
        files = flat_or_split_files(path)
        if not files:
            raise InputError(
                f"no .h5 file in {path} or its split folders (val/, multicoil_test/, ...); give another one"
            )
        return [KSpaceVolume(file, path) for file in files]
    if not path.exists():
        raise InputError(f"there is no file or folder {path}; give fastMRI .h5 files, or folders of them")
    if path.suffix != ".h5":
        raise InputError(f"{path} does not end in .h5; give fastMRI .h5 files, or folders of them")
    return [KSpaceVolume(path)]


@lru_cache(maxsize=4096)
def samples_sha256(volume: Volume) -> str:
    """SHA-256 of the k-space of the first, middle and last slice and of the mask: files of one shape have one size.

    Empty where they are not sound, which the check of all samples reports.
    """
    digest = sha256(b"" if volume.file_mask is None else volume.file_mask.tobytes())
    try:
        for i in sorted({0, volume.n_slices // 2, volume.n_slices - 1}):
            digest.update(volume.kspace(i).tobytes())
    except DataChangedError:
        raise
    except InputError:
        return ""
    return digest.hexdigest()


def other_sampling(volumes: Sequence[Volume], reconstructor: Reconstructor) -> str:
    """Word which files are not undersampled like the data that a network was trained on.

    Returns:
        A note; empty where all are, or where it is not known what the network was trained on.
    """
    masks = read_json(reconstructor.run.provenance).get("masks") or {}
    trained = [*masks.get("accelerations", ()), *(masks.get("own") or {}).get("acceleration_true", ())]
    if not trained:
        return ""
    low, high = min(trained), max(trained)
    true = {volume.name: stored_mask(volume).acceleration_true for volume in volumes}
    others = [v for v in volumes if v.sampling.is_2d or not low / _LIKE <= true[v.name] <= high * _LIKE]
    if not others:
        return ""
    first = others[0]
    how = f"{'rows and columns' if first.sampling.is_2d else 'columns'}, true acceleration {true[first.name]:.2f}"
    seen = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
    return (
        f"{len(others)} of {len(volumes)} files are sampled otherwise than the training data of {reconstructor.name} "
        f"(columns, acceleration {seen}); {first.name}: {'full k-space' if true[first.name] == 1 else how}"
    )
