"""Runs, files and an independent inverse FFT for the tests of `reconstruct`."""

import h5py
import numpy as np

from mrirecon.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ReconstructConfig,
    TrainConfig,
)
from mrirecon.data import Volume
from mrirecon.workflows.train import train

MODELS = {
    "unet": ModelConfig(channels=4, pools=2, norm="batch"),
    "complex-normunet": ModelConfig("normunet", "complex", channels=4, pools=2, norm="batch"),
}
COLUMNS = np.zeros(40, np.uint8)
COLUMNS[::4] = COLUMNS[17:23] = 1


def train_runs(data, folder):
    """A run of each kind of network and input, of two steps: its folder by name."""
    made = {}
    for name, model in MODELS.items():
        settings = TrainConfig(
            data=DataConfig(path=str(data), mask="random"),
            model=model,
            optimizer=OptimizerConfig(name="adam", lr=1e-2),
            max_steps=2,
            precision="fp32",
            device="cpu",
            output=str(folder / name),
        )
        made[name] = str(train(settings).path)
    return made


def write_files(folder, volume_writer):
    """A fully sampled file without reference, one with its own mask, one of another size."""
    volume_writer(folder / "full.h5", target=False, seed=1)
    volume_writer(folder / "own.h5", mask=COLUMNS, attrs={"acceleration": 4}, seed=2)
    volume_writer(folder / "other.h5", n_slices=2, n_coils=1, matrix=(36, 44), scale=1e-6, seed=3)
    return folder


def config(folder, **changes):
    return ReconstructConfig(**{"output": str(folder.parent / "out"), "device": "cpu", "threads": 1} | changes)


def images(path):
    with h5py.File(path) as file:
        assert file["reconstruction"].dtype == np.float32
        return file["reconstruction"][()]


def attrs(path):
    with h5py.File(path) as file:
        return dict(file.attrs)


def by_numpy(path):
    """The magnitude of the inverse FFT, RSS over coils, cut to the image; in double."""
    with h5py.File(path) as file:
        kspace = file["kspace"][()].astype(complex)
        if "mask" in file:
            kspace = kspace * (file["mask"][()] > 0)
    coils = kspace[:, None] if kspace.ndim == 3 else kspace
    coils = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(coils, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    height, width = Volume(path).image_shape
    top, left = (coils.shape[-2] - height) // 2, (coils.shape[-1] - width) // 2
    return np.sqrt((np.abs(coils) ** 2).sum(1))[:, top : top + height, left : left + width]


def left_over(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())
