"""Fixtures shared by all tests, and which cells of a matrix are long tests."""

import atexit
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is there: tests run side by side
_CACHE = tempfile.TemporaryDirectory(prefix="mrirecon-tests-")  # tests neither see nor leave what commands keep
atexit.register(_CACHE.cleanup)
os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))  # which keeps its fonts
os.environ["XDG_CACHE_HOME"] = _CACHE.name

from mrirecon import progress
from mrirecon.data.hdf5 import limits
from mrirecon.data.hdf5.write import write_volume
from mrirecon.data.header import Header

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the collected cells of a test marked `cells(n)`, n are run by default; the others are long tests."""
    tests = defaultdict(list)
    for item in items:
        if item.get_closest_marker("cells"):
            tests[item.nodeid.partition("[")[0]].append(item)
    for cells in tests.values():
        n = min(cells[0].get_closest_marker("cells").args[0], len(cells))
        kept = {round(i * (len(cells) - 1) / max(n - 1, 1)) for i in range(n)}
        for i in set(range(len(cells))) - kept:
            cells[i].add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _spoken_again_afterwards():
    """`--quiet` and `--no-cache` are for one program; tests call several in one process."""
    yield
    progress.quiet = False
    limits._cache_is_on[0] = True


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real k-space in the fastMRI layout; tests that use it are marked `realdata`."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real k-space at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def volume_writer() -> Callable[..., Path]:
    """`make_volume`: writes a small synthetic fastMRI file."""
    return make_volume


def make_volume(
    path,
    *,
    n_slices=3,
    n_coils=4,
    matrix=(48, 40),
    oversampling=2,
    padding=(0, 0),
    mask=None,
    target=True,
    acquisition="AXT2",
    patient_id=None,
    origin="simulated-from-phantom",
    scale=1.0,
    noise=0.01,
    seed=0,
    attrs=None,
) -> Path:
    """Write a fastMRI file with an ellipse-like object that differs by slice and `seed`; all of it is numpy.

    Args:
        path: File to write.
        n_slices: Slices.
        n_coils: Coils; 1 writes a single-coil file (no coil axis, `reconstruction_esc` beside the RSS image).
        matrix: `(height, width)` of the image; k-space is `oversampling` times as high.
        oversampling: Readout oversampling.
        padding: Zero-padded columns at the left and right of k-space, as the header then says.
        mask: Columns `(width,)` of a file's own mask; k-space is zeroed outside, as in fastMRI's test files.
        target: Write the reference.
        acquisition: Contrast.
        patient_id: Patient; the file's stem when left out.
        origin: Origin.
        scale: The reference's maximum is about this.
        noise: SD of the noise, as a share of `scale`.
        seed: Seed of object and noise.
        attrs: Further attributes.
    """
    path = Path(path)
    height, width = round(matrix[0] * oversampling), matrix[1]
    rng = np.random.default_rng(seed)
    images = _coil_images(n_slices, n_coils, (height, width), oversampling, rng) * scale
    images = images + noise * scale * (rng.standard_normal((*images.shape, 2)) @ np.array([1, 1j]))
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    kspace = kspace.astype(np.complex64)
    kspace[..., : padding[0]] = 0
    kspace[..., width - padding[1] :] = 0
    datasets = _references(kspace, matrix, n_coils) if target else {}
    if mask is not None:
        kspace[..., ~np.asarray(mask, bool)] = 0
        datasets["mask"] = np.asarray(mask)
    write_volume(
        path,
        kspace=kspace[:, 0] if n_coils == 1 else kspace,
        header=Header(
            (height, width, 1),
            (*matrix, 1),
            (200.0 * oversampling, 200.0, 5.0),
            (200.0, 200.0, 5.0),
            (0, width // 2 - padding[0], width - sum(padding) - 1),
            n_coils,
            3.0,
        ),
        acquisition=acquisition,
        patient_id=path.stem if patient_id is None else patient_id,
        origin=origin,
        datasets=datasets,
        attrs=attrs or {},
    )
    return path


def _coil_images(n_slices, n_coils, shape, oversampling, rng):
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, endpoint=False) for n in shape), indexing="ij")
    y = y * oversampling
    angles = 2 * np.pi * np.arange(n_coils) / n_coils
    smaps = [np.exp(-((x - np.cos(a)) ** 2 + (y - np.sin(a)) ** 2) / 2 + 1j * (a + x)) for a in angles]
    slices = []
    for _ in range(n_slices):
        a, b, cx, cy = rng.uniform([0.5, 0.5, -0.1, -0.1], [0.8, 0.8, 0.1, 0.1])
        radius = np.hypot((x - cx) / a, (y - cy) / b)
        detail = 0.3 * np.cos(rng.uniform(5, 15) * x + rng.uniform(5, 15) * y)
        slices.append((radius < 1) * (1 + detail) * 0.5)
    return np.stack(slices)[:, None] * np.stack(smaps)[None]


def _references(kspace, matrix, n_coils):
    images = np.fft.ifft2(np.fft.ifftshift(kspace, axes=(-2, -1)).astype(complex), norm="ortho")
    images = np.fft.fftshift(images, axes=(-2, -1))
    top = (images.shape[-2] - matrix[0]) // 2
    rss = np.sqrt((np.abs(images[..., top : top + matrix[0], :]) ** 2).sum(axis=1))
    return {"reconstruction_rss": rss} | ({"reconstruction_esc": rss} if n_coils == 1 else {})
