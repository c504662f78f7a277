"""Sound files in the fastMRI layout, small ones of every kind that HDF5 stores differently: what is mutated."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

N_SLICES, N_COILS, HEIGHT, WIDTH = 2, 3, 24, 20
IMAGE = (16, 20)

_XML = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<acquisitionSystemInformation><systemFieldStrength_T>3.0</systemFieldStrength_T>\
<receiverChannels>{coils}</receiverChannels></acquisitionSystemInformation>
<experimentalConditions><H1resonanceFrequency_Hz>127732436</H1resonanceFrequency_Hz></experimentalConditions>
<encoding><encodedSpace><matrixSize><x>{encoded_height}</x><y>{width}</y><z>1</z></matrixSize>\
<fieldOfView_mm><x>300.0</x><y>200.0</y><z>5.0</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{height}</x><y>{width}</y><z>1</z></matrixSize>\
<fieldOfView_mm><x>200.0</x><y>200.0</y><z>5.0</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{center}</center>\
</kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""


def header_xml(coils: int = N_COILS) -> str:
    """An ISMRMRD header that fits the specimens."""
    numbers = {"encoded_height": HEIGHT, "height": IMAGE[0], "width": WIDTH, "last": WIDTH - 1, "center": WIDTH // 2}
    return _XML.format(coils=coils, **numbers)


def make_kspace(seed: int = 0, coils: int = N_COILS) -> np.ndarray:
    """Complex64 (slices, coils, height, width): noise under a hill, so that every sample counts."""
    rng = np.random.default_rng(seed)
    shape = (N_SLICES, coils, HEIGHT, WIDTH)
    y, x = np.meshgrid(np.linspace(-2, 2, HEIGHT), np.linspace(-2, 2, WIDTH), indexing="ij")
    noise = rng.standard_normal((*shape, 2)) @ np.array([1, 1j])
    return (noise * np.exp(-(x**2) - y**2)).astype(np.complex64)


def make_mask() -> np.ndarray:
    """Every second column and a centre."""
    columns = np.arange(WIDTH) % 2 == 0
    columns[WIDTH // 2 - 2 : WIDTH // 2 + 2] = True
    return columns


def _write(path: Path, *, coils: int = N_COILS, own_mask: bool = False, libver: str = "earliest", **storage) -> None:
    kspace = make_kspace(coils=coils)
    image = np.abs(np.random.default_rng(1).standard_normal((N_SLICES, *IMAGE))).astype(np.float32)
    mask = make_mask()
    with h5py.File(path, "w", libver=libver) as file:
        stored = np.where(mask, kspace, 0) if own_mask else kspace
        file.create_dataset("kspace", data=stored[:, 0] if coils == 1 else stored, **storage)
        file.create_dataset("ismrmrd_header", data=header_xml(coils).encode(), dtype=h5py.string_dtype())
        if own_mask:
            file["mask"] = mask
        else:
            file.create_dataset("reconstruction_rss", data=image, **storage)
            if coils == 1:
                file["reconstruction_esc"] = image * np.float32(0.9)
        about = {"acquisition": "AXT2", "patient_id": "p1", "max": float(image.max()), "norm": 1.5}
        file.attrs.update(about | ({"acceleration": 2} if own_mask else {}))


SPECIMENS: dict[str, Callable[[Path], None]] = {
    "multi-coil": _write,
    "masked": lambda path: _write(path, own_mask=True),
    "single-coil": lambda path: _write(path, coils=1),
    "chunked": lambda path: _write(path, chunks=True, compression="gzip", shuffle=True),
    "checked": lambda path: _write(path, chunks=True, fletcher32=True),
    "new format": lambda path: _write(path, libver="latest"),
    "new chunked": lambda path: _write(path, libver="latest", chunks=True, compression="lzf"),
    "single-coil masked": lambda path: _write(path, coils=1, own_mask=True),
}
