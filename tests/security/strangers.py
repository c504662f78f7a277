"""HDF5 files as a stranger might hand them over: each points, in one of HDF5's ways, to what is not in the file."""

import os

import h5py
import numpy as np

ELSEWHERE = "elsewhere"  # a named pipe: whoever opens it to read waits for ever


def rebuilt(path, key, put):
    """Replace `key` of a sound file by what `put(file, key, shape, dtype, name of the place elsewhere)` makes."""
    place = path.parent / ELSEWHERE
    if not place.exists():
        os.mkfifo(place)
    with h5py.File(path, "r+") as file:
        shape, dtype = file[key].shape, file[key].dtype
        del file[key]
        put(file, key, shape, dtype, str(place))
    return path


def _external_link(file, key, _shape, _dtype, place):
    file[key] = h5py.ExternalLink(place, key)


def _soft_link(file, key, shape, dtype, _place):
    file["stored"] = np.ones(shape, dtype) if dtype.kind != "O" else "text"
    file[key] = h5py.SoftLink("/stored")


def _soft_link_to_nothing(file, key, _shape, _dtype, _place):
    file[key] = h5py.SoftLink("/nothing")


def _soft_link_through_an_external_one(file, key, _shape, _dtype, place):
    file["other"] = h5py.ExternalLink(place, "/")
    file[key] = h5py.SoftLink(f"/other/{key}")


def _virtual(file, key, shape, dtype, place):
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(place, key, shape)
    file.create_virtual_dataset(key, layout)


def _virtual_of_itself(file, key, shape, dtype, _place):
    file["stored"] = np.ones(shape, dtype)
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(".", "stored", shape)
    file.create_virtual_dataset(key, layout)


def _external_storage(file, key, shape, dtype, place):
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    file.create_dataset(key, shape, dtype, external=[(place, 0, n_bytes)])


LINKS = {
    "external link": (_external_link, "is a link to another file, which is not followed"),
    "soft link": (_soft_link, "is a soft link, which is not followed"),
    "soft link to nothing": (_soft_link_to_nothing, "is a soft link, which is not followed"),
    "soft link through an external one": (_soft_link_through_an_external_one, "is a soft link"),
}
STORAGE = {
    "virtual": (_virtual, "is a virtual data set made of other data sets, which are not opened"),
    "virtual of itself": (_virtual_of_itself, "is a virtual data set"),
    "external storage": (_external_storage, "keeps its samples in other files, which are not opened"),
}
WAYS = {**LINKS, **STORAGE}


def user_block(path, content):
    """The same file behind foreign bytes; HDF5 wants 512, 1024, ... of them."""
    block = content.ljust(512, b"\0")
    with h5py.File(path, "r") as old, h5py.File(path.with_suffix(".new"), "w", userblock_size=512) as new:
        for key in old:
            old.copy(key, new)
        new.attrs.update(old.attrs)
    moved = path.with_suffix(".new")
    moved.write_bytes(block + moved.read_bytes()[512:])
    moved.replace(path)
