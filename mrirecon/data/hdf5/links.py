"""Objects of an HDF5 file that are wholly inside it: links and storage elsewhere are refused before they are opened.

Opening a soft or external link opens what it points to, and reading a virtual data set or one with external
storage opens the files that it names: any file of this machine, or a pipe that never answers.
"""

from collections.abc import Iterator

import h5py
from h5py import h5d, h5l, h5o

from mrirecon.data.hdf5.limits import n_bytes
from mrirecon.errors import InputError

_LARGEST_COMPRESSION = 1100  # gzip, HDF5's strongest common filter, cannot pass 1032
_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
_ADVICE = "write a file that holds the data itself"


def find_dataset(file: h5py.File, key: str) -> h5py.Dataset | None:
    """The data set `key`, or None.

    Raises:
        InputError: A link, a group, samples that lie in other files, or fewer than it claims.
    """
    if not file.id.links.exists(key.encode()):  # unlike `key in file`, true of a link whose object is damaged
        return None
    kind = _link_type(file, key)
    if kind != h5l.TYPE_HARD:
        raise InputError(f"'{key}' is {_LINKS.get(kind, 'a link')}, which is not followed; {_ADVICE}")
    found = h5o.open(file.id, key.encode())
    if not isinstance(found, h5d.DatasetID):
        raise InputError(f"'{key}' is a group, not a data set; write the file anew")
    if elsewhere := _elsewhere(found):
        raise InputError(f"'{key}' {elsewhere}, which are not opened; {_ADVICE}")
    dataset = h5py.Dataset(found)
    claimed = n_bytes(dataset.shape or (), dataset.dtype.itemsize)
    if claimed > _LARGEST_COMPRESSION * max(found.get_storage_size(), 1):
        raise InputError(f"'{key}' claims {claimed} bytes that the file does not hold; copy it again")
    return dataset


def inner_datasets(file: h5py.File) -> Iterator[h5d.DatasetID]:
    """The data sets directly in `file` whose samples are in it too; the others are left out."""
    for key in file:
        if _link_type(file, key) == h5l.TYPE_HARD:
            found = h5o.open(file.id, key.encode("utf-8", "surrogateescape"))
            if isinstance(found, h5d.DatasetID) and not _elsewhere(found):
                yield found


def _link_type(file: h5py.File, key: str) -> int:
    return int(file.id.links.get_info(key.encode("utf-8", "surrogateescape")).type)


def _elsewhere(dataset: h5d.DatasetID) -> str:
    """In what way a data set needs other files; empty: it does not. Asking opens none of them."""
    plan = dataset.get_create_plist()
    if plan.get_layout() == h5d.VIRTUAL:
        return "is a virtual data set made of other data sets"
    return "keeps its samples in other files" if plan.get_external_count() else ""
