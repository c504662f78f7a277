"""One volume: what it reads, in which form, and that handles stay in their process."""

import multiprocessing
import os
import pickle
from pathlib import Path

import fastmri.data
import h5py
import numpy as np
import pytest

from mrirecon.data.hdf5 import opening
from mrirecon.data.hdf5.write import write_volume
from mrirecon.data.header import Header
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError


@pytest.fixture
def multi(volume_writer, tmp_path):
    return Volume(volume_writer(tmp_path / "m.h5", n_slices=4, n_coils=3))


@pytest.fixture
def single(volume_writer, tmp_path):
    return Volume(volume_writer(tmp_path / "s.h5", n_coils=1))


def replace_dataset(path, key, values):
    opening.close(path)  # HDF5 does not write to a file that this process has open for reading
    with h5py.File(path, "r+") as file:
        if key in file:
            del file[key]
        if values is not None:
            file[key] = values


def relative(a, b):
    return np.linalg.norm(a.astype(complex) - b) / np.linalg.norm(b)


def test_multicoil(multi):
    assert multi.shape == (4, 3, 96, 40)
    assert (multi.n_slices, multi.n_coils, multi.single_coil) == (4, 3, False)
    assert multi.image_shape == (48, 40)
    with h5py.File(multi.path) as file:
        assert np.array_equal(multi.kspace(2), file["kspace"][2])
        assert np.array_equal(multi.target(2), file["reconstruction_rss"][2])
        assert multi.data_range == file["reconstruction_rss"][()].max() == np.float32(file.attrs["max"])
    assert multi.kspace(0).dtype == np.complex64
    assert multi.target(0).dtype == np.float32


def test_singlecoil_has_one_coil(single):
    assert single.shape == (3, 1, 96, 40)
    assert single.single_coil
    assert single.kspace(0).shape == (1, 96, 40)


def test_singlecoil_is_scored_against_esc_and_its_own_maximum(single):
    with h5py.File(single.path) as file:
        esc = 2 * file["reconstruction_rss"][()]
    replace_dataset(single.path, "reconstruction_esc", esc)
    assert np.array_equal(single.target(1), esc[1])
    assert single.data_range == esc.max() != single.attrs["max"]
    replace_dataset(single.path, "reconstruction_esc", None)
    again = Volume(single.path)
    assert np.array_equal(again.target(1), esc[1] / 2)


def test_multicoil_ignores_esc(multi):
    replace_dataset(multi.path, "reconstruction_esc", np.zeros((4, 48, 40), np.float32))
    assert multi.target(0).max() > 0


def test_equals_fastmri_samples(volume_writer, tmp_path):
    for kind, coils in (("multicoil", 3), ("singlecoil", 1)):
        volume = Volume(volume_writer(tmp_path / kind / "a.h5", n_coils=coils, padding=(2, 3)))
        for i, (kspace, mask, target, attrs, _, _) in enumerate(fastmri.data.SliceDataset(tmp_path / kind, kind)):
            assert np.array_equal(volume.kspace(i).squeeze(), kspace.squeeze())
            assert np.array_equal(volume.target(i), target)
            assert mask is None
            assert volume.file_mask is None
            assert volume.acquired == slice(attrs["padding_left"], attrs["padding_right"])


def test_names_and_attributes(volume_writer, tmp_path):
    path = volume_writer(tmp_path / "val" / "a.h5", patient_id="p1", acquisition="AXT1", attrs={"n": np.int64(3)})
    volume = Volume(path, tmp_path)
    assert (volume.name, Volume(path).name, volume.mask_seed_name) == ("val/a.h5", "a.h5", "a.h5")
    assert (volume.patient, volume.acquisition, volume.origin) == ("p1", "AXT1", "simulated-from-phantom")
    assert type(volume.attrs["n"]) is int
    assert type(volume.attrs["max"]) is float
    with h5py.File(path, "r+") as file:
        for key in ("patient_id", "acquisition", "origin"):
            del file.attrs[key]
        file.attrs["mask_seed_name"] = "file1.h5"
    bare = Volume(path, tmp_path)
    assert (bare.patient, bare.acquisition, bare.origin) == ("val/a.h5", "unknown", "measured")
    assert bare.mask_seed_name == "file1.h5"


def test_test_files_have_a_mask_and_no_target(volume_writer, tmp_path):
    mask = np.arange(40) % 3 == 0
    volume = Volume(volume_writer(tmp_path / "t.h5", mask=mask, target=False))
    assert np.array_equal(volume.file_mask, mask)
    assert not volume.has_target
    assert volume.data_range == 0.0
    assert volume.image_shape == (48, 40)
    with pytest.raises(InputError, match=r"t.h5: has no reference"):
        volume.target(0)


@pytest.mark.parametrize(
    ("kspace", "recon", "expected"),
    [
        ((64, 30), (40, 40), (30, 30)),  # narrower than the reconstruction: a square of its width
        ((64, 40), (40, 40), (40, 40)),
        ((64, 48), (40, 40), (40, 40)),
        ((32, 48), (40, 40), (32, 40)),
    ],
)
def test_image_shape_without_reference(tmp_path, kspace, recon, expected):
    fov = (0.0,) * 3
    header = Header((*kspace, 1), (*recon, 1), fov, fov, (0, kspace[1] // 2, kspace[1] - 1))
    data = np.ones((1, 2, *kspace), np.complex64)
    write_volume(tmp_path / "a.h5", kspace=data, header=header, acquisition="", patient_id="", origin="measured")
    assert Volume(tmp_path / "a.h5").image_shape == expected


def test_image_shape_is_the_references(volume_writer, tmp_path):
    path = volume_writer(tmp_path / "a.h5", matrix=(48, 40))
    replace_dataset(path, "reconstruction_rss", np.ones((3, 50, 52), np.float32))
    assert Volume(path).image_shape == (50, 52)


def test_without_header_the_shapes_decide_where_there_is_a_reference(multi):
    replace_dataset(multi.path, "ismrmrd_header", None)
    volume = Volume(multi.path)
    assert volume.header == Header.from_shapes((96, 40), (48, 40))
    assert volume.acquired == slice(0, 40)
    replace_dataset(multi.path, "reconstruction_rss", None)
    with pytest.raises(InputError, match=r"m.h5: has neither 'ismrmrd_header' nor a reference"):
        _ = Volume(multi.path).shape


@pytest.mark.parametrize("fields", ["complex128", ("real", "imag"), ("r", "i"), ("re", "im")])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_other_complex_types_are_accepted(multi, fields, kind):
    expected = multi.kspace(1).copy()
    with h5py.File(multi.path) as file:
        values = file["kspace"][()]
    if fields == "complex128":
        stored = values.astype(complex)
    else:
        stored = np.empty(values.shape, [(fields[0], kind), (fields[1], kind)])
        stored[fields[0]], stored[fields[1]] = values.real, values.imag
    replace_dataset(multi.path, "kspace", stored)
    volume = Volume(multi.path)
    assert volume.kspace(1).dtype == np.complex64
    assert np.array_equal(volume.kspace(1), expected)


@pytest.mark.parametrize("key", ["kspace", "reconstruction_rss"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_met_while_reading_names_file_and_slice(multi, key, value):
    with h5py.File(multi.path, "r+") as file:
        file[key][2, ..., 5, 5] = value
    assert multi.shape  # sound, as far as a look without the samples tells
    read = multi.kspace if key == "kspace" else multi.target
    read(1)
    with pytest.raises(InputError, match=f"^m.h5: {key} holds NaN or infinity in slice 2;"):
        read(2)


def test_a_value_too_large_for_single_precision_is_infinity(multi):
    with h5py.File(multi.path) as file:
        values = file["kspace"][()].astype(complex)
    values[0, 0, 0, 0] = 1e60
    replace_dataset(multi.path, "kspace", values)
    with pytest.raises(InputError, match="NaN or infinity in slice 0"):
        Volume(multi.path).kspace(0)


@pytest.mark.parametrize("i", [-1, 4, 100])
def test_there_is_no_slice_outside(multi, i):
    with pytest.raises(IndexError, match="slices 0 to 3"):
        multi.kspace(i)
    with pytest.raises(IndexError, match="slices 0 to 3"):
        multi.target(i)


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    assert Volume(tmp_path / "not-there.h5").name == "not-there.h5"


def test_pickle_holds_no_handle(multi):
    expected = multi.kspace(0)
    data = pickle.dumps(multi)
    assert len(data) < 3000
    copy = pickle.loads(data)
    assert copy.is_read
    assert np.array_equal(copy.kspace(0), expected)


def _read_in_child(volume, queue):
    inherited = dict(opening._open)
    kspace = volume.kspace(1)
    queue.put((kspace.sum(), opening._open[volume.path] is inherited.get(volume.path), os.getpid()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_open_their_own_handle(multi, method):
    expected = multi.kspace(1).sum()  # the parent's handle is open
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=_read_in_child, args=(multi, queue)) for _ in range(2)]
    for child in children:
        child.start()
    results = [queue.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert [total for total, _, _ in results] == [expected] * 2
    assert not any(shared for _, shared, _ in results)
    assert os.getpid() not in [pid for *_, pid in results]
    assert multi.kspace(1).sum() == expected


def test_few_files_are_open_at_a_time(volume_writer, tmp_path):
    volumes = [Volume(volume_writer(tmp_path / f"{i}.h5", n_slices=1, n_coils=1, matrix=(8, 8))) for i in range(40)]
    for _ in range(2):
        for volume in volumes:
            volume.kspace(0)
    assert len(opening._open) <= 16
    n_open = sum(str(fd.resolve()).startswith(str(tmp_path)) for fd in Path("/proc/self/fd").iterdir())
    assert n_open <= 16


def test_a_file_that_was_replaced_is_read_anew(volume_writer, tmp_path):
    path = tmp_path / "a.h5"
    first = Volume(volume_writer(path, seed=1)).kspace(0)
    second = Volume(volume_writer(path, seed=2)).kspace(0)
    assert relative(first, second) > 0.1


@pytest.mark.realdata
def test_every_real_file_gives_its_reference(shared_data):
    from mrirecon.data.folders.volume_files import list_volumes

    volumes = list_volumes(shared_data / "multicoil") + list_volumes(shared_data / "singlecoil")
    assert len(volumes) == 8
    for volume in volumes:
        assert volume.single_coil == (volume.path.parent.name == "singlecoil")
        assert volume.data_range == pytest.approx(volume.attrs["max"], rel=1e-6)
        for i in range(volume.n_slices):
            assert relative(reconstruct(volume, i), volume.target(i)) < 1e-6


def reconstruct(volume, i):
    """Inverse FFT, centre crop, RSS with numpy in double."""
    kspace = np.fft.ifftshift(volume.kspace(i).astype(complex), axes=(-2, -1))
    images = np.fft.fftshift(np.fft.ifft2(kspace, norm="ortho"), axes=(-2, -1))
    (height, width), (h, w) = images.shape[-2:], volume.image_shape
    top, left = (height - h) // 2, (width - w) // 2
    return np.sqrt((np.abs(images[:, top : top + h, left : left + w]) ** 2).sum(axis=0))


@pytest.mark.realdata
def test_undersampled_real_file_has_no_reference(shared_data):
    volume = Volume(shared_data / "multicoil_undersampled" / "brain_8ch_poisson.h5")
    assert volume.shape == (1, 8, 230, 180)
    assert not volume.has_target
    assert volume.image_shape == (230, 180)
