"""Write HDF5 files whole or not at all, and volumes in the fastMRI layout."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import h5py
import numpy as np

from mrirecon.data.header import Header
from mrirecon.errors import InputError
from mrirecon.files import replacing


def write_volume(
    path: str | os.PathLike[str],
    *,
    kspace: np.ndarray,
    header: Header,
    acquisition: str,
    patient_id: str,
    origin: str,
    datasets: Mapping[str, np.ndarray] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> None:
    """Write a fastMRI `.h5` file, whole or not at all.

    Args:
        path: The file to write; its folder is made.
        kspace: `(slices, coils, height, width)`, or `(slices, height, width)` for single-coil; complex.
        header: Becomes the data set `ismrmrd_header`.
        acquisition: Contrast, as in fastMRI (CORPD_FBK, AXT2, ...).
        patient_id: The same for all files of one subject; splits keep them together.
        origin: measured, simulated-from-phantom or simulated-from-magnitude.
        datasets: Further data sets: `reconstruction_rss` (slices, h, w), from which `max` and `norm` are
            computed, `reconstruction_esc`, `mask` (width,), `ground_truth`, ...
        attrs: Further attributes; they win over the computed ones.

    Raises:
        InputError: k-space of another shape or type, or a reconstruction with another number of slices.
    """
    datasets = dict(datasets or {})
    _check(kspace, datasets)
    about: dict[str, Any] = {"acquisition": acquisition, "patient_id": patient_id, "origin": origin}
    if "reconstruction_rss" in datasets:
        reference = np.asarray(datasets["reconstruction_rss"], dtype=np.float32)
        about |= {"max": float(reference.max()), "norm": float(np.linalg.norm(reference.astype(np.float64)))}
    with new_hdf5(path) as file:
        file.create_dataset("kspace", data=np.asarray(kspace, dtype=np.complex64))
        file.create_dataset("ismrmrd_header", data=header.to_xml(), dtype=h5py.string_dtype())
        for name, values in datasets.items():
            array = np.asarray(values)
            file.create_dataset(name, data=array.astype(np.float32) if array.dtype == np.float64 else array)
        file.attrs.update(about | dict(attrs or {}))


@contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Yield an HDF5 file in memory, which then is written to `path` whole or not at all.

    Raises:
        OSError: It cannot be written there.
    """
    content = BytesIO()  # HDF5 does not survive a full disk: it may crash when the file is closed
    with h5py.File(content, "w") as file:
        yield file
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _check(kspace: np.ndarray, datasets: Mapping[str, np.ndarray]) -> None:
    """Check k-space `(slices, [coils,] height, width)` and reconstructions `(slices, h, w)`."""
    if kspace.ndim not in (3, 4) or not np.iscomplexobj(kspace):
        raise InputError(
            f"k-space is {kspace.dtype} of shape {kspace.shape}; it must be complex, "
            "(slices, coils, height, width) or (slices, height, width)"
        )
    for name, values in datasets.items():
        if name.startswith("reconstruction") and (np.ndim(values) != 3 or len(values) != len(kspace)):
            raise InputError(f"{name} has shape {np.shape(values)}; it needs (slices, h, w) with {len(kspace)} slices")
