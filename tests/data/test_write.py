"""Written volumes are fastMRI files."""

import fastmri.data
import h5py
import numpy as np
import pytest

from mrirecon.data.hdf5.write import write_volume
from mrirecon.data.header import Header
from mrirecon.errors import InputError

HEADER = Header.from_shapes((8, 6), (8, 6))
ABOUT = {"header": HEADER, "acquisition": "AXT2", "patient_id": "p", "origin": "measured"}


def kspace(*shape):
    return np.random.default_rng(0).standard_normal((*shape, 2)) @ np.array([1, 1j])


def test_max_and_norm_are_the_references(tmp_path):
    rss = np.random.default_rng(0).random((2, 8, 6))
    write_volume(
        tmp_path / "a.h5",
        kspace=kspace(2, 3, 8, 6),
        datasets={"reconstruction_rss": rss, "ground_truth": rss[:, ::2]},
        attrs={"snr": 30.0},
        **ABOUT,
    )
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["kspace"].dtype == np.complex64
        assert file["reconstruction_rss"].dtype == np.float32
        assert file["ground_truth"].shape == (2, 4, 6)
        assert file.attrs["max"] == file["reconstruction_rss"][()].max()
        assert file.attrs["norm"] == pytest.approx(np.linalg.norm(rss), rel=1e-6)
        assert file.attrs["snr"] == 30.0
        assert file.attrs["origin"] == "measured"


@pytest.mark.parametrize(("kind", "shape"), [("multicoil", (2, 3, 8, 6)), ("singlecoil", (2, 8, 6))])
def test_fastmri_reads_it(tmp_path, kind, shape):
    data = kspace(*shape)
    write_volume(tmp_path / "a.h5", kspace=data, **ABOUT)
    dataset = fastmri.data.SliceDataset(tmp_path, kind)
    assert len(dataset) == 2
    assert np.array_equal(dataset[1][0], data[1].astype(np.complex64))
    assert dataset[1][3]["recon_size"] == (8, 6, 1)


def test_equal_volumes_give_equal_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write_volume(tmp_path / name, kspace=kspace(1, 2, 8, 6), **ABOUT)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.h5"
    write_volume(path, kspace=kspace(1, 2, 8, 6), **ABOUT)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_volume(path, kspace=kspace(1, 2, 8, 6), attrs={"bad": object()}, **ABOUT)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("data", [np.zeros((2, 8, 6)), kspace(8, 6), kspace(1, 1, 1, 8, 6)])
def test_only_kspace_is_written(tmp_path, data):
    with pytest.raises(InputError, match=r"must be complex, \(slices, coils, height, width\)"):
        write_volume(tmp_path / "a.h5", kspace=data, **ABOUT)


@pytest.mark.parametrize("shape", [(3, 8, 6), (8, 6)])
def test_references_have_the_slices_of_kspace(tmp_path, shape):
    with pytest.raises(InputError, match="with 2 slices"):
        write_volume(
            tmp_path / "a.h5",
            kspace=kspace(2, 3, 8, 6),
            datasets={"reconstruction_rss": np.ones(shape)},
            **ABOUT,
        )
