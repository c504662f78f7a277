"""References that do not belong to their k-space, and k-space that is not what it should be, are said in one line."""

import re

import fastmri
import h5py
import numpy as np
import pytest
import torch
from fastmri.data.transforms import center_crop

from mrirecon.config import DataConfig
from mrirecon.data.folders.check import check_volumes
from mrirecon.data.folders.folder import open_folder, select
from mrirecon.data.folders.reference_check import find_disagreement, rss_image
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError


def fft(kspace, axes, inverse=True):
    transform = np.fft.ifftn if inverse else np.fft.fftn
    return np.fft.fftshift(transform(np.fft.ifftshift(kspace, axes=axes), axes=axes, norm="ortho"), axes=axes)


def shifted_image(kspace):
    height, width = kspace.shape[-2:]
    return kspace * (-1.0) ** (np.arange(height)[:, None] + np.arange(width))


# what was done to k-space or reference, how it is told, and whether it is refused
FAULTS = {
    "transposed": (lambda k, r: (k.swapaxes(-1, -2), r), "kspace seems to be transposed", True),
    "mirrored": (lambda k, r: (k[..., ::-1], r), "image of kspace is mirrored left-right", True),
    "upside down": (lambda k, r: (k[..., ::-1, :], r), "image of kspace is mirrored up-down", True),
    "conjugate": (lambda k, r: (k.conj(), r), "image of kspace is rotated by 180 degrees", True),
    "in FFT order": (lambda k, r: (np.fft.ifftshift(k, axes=(-2, -1)), r), "centre of kspace is in its corners", True),
    "image not centred": (lambda k, r: (shifted_image(k), r), "of an image that is not centred", True),
    "channel-last": (lambda k, r: (np.moveaxis(k, 1, -1), r), "kspace seems to be channel-last", True),
    "images": (lambda k, r: (fft(k, (-2, -1)), r), "kspace seems to be already an image", True),
    "half transformed": (lambda k, r: (fft(k, (-2,)), r), "transformed along the readout already", True),
    "reference to 1": (lambda k, r: (k, r / r.max()), r"0\.\d+ times .* scaled to \[0, 1\]", True),
    "numpy's FFT": (lambda k, r: (k, r / np.sqrt(k[0, 0].size)), "as numpy's FFT scales without norm='ortho'", True),
    "another unit": (lambda k, r: (k, r * 1.1), "the reference is 1.1 times the RSS image of kspace", False),
    "another slice": (lambda k, r: (k, r[::-1]), "not alike", False),
    "empty slice": (
        lambda k, r: (k * np.array([0, 1])[:, None, None, None], r),
        "kspace is 0 everywhere in slice 0",
        True,
    ),
    "empty reference": (lambda k, r: (k, r * np.array([0, 1])[:, None, None]), "reference is 0 everywhere in sl", True),
    "a unit for each slice": (
        lambda k, r: (k, r * np.array([0.2, 1.8])[:, None, None]),
        "another factor in each",
        False,
    ),
    "intensity": (lambda k, r: (k, r * np.linspace(1, 5, r.shape[-1])), "no single factor makes them equal", False),
    "off centre": (lambda k, r: (np.roll(k, 8, -1), r), "peak of kspace lies 0 rows and 8 columns off", False),
    "moved": (lambda k, r: (k, np.roll(r, (3, -2), (1, 2))), "lies -3 rows and 2 columns off the reference", False),
}
OF_SLICES = ("another slice", "empty slice", "empty reference", "a unit for each slice")  # not seen in the middle one


def changed(path, change):
    with h5py.File(path, "r+") as file:
        kspace, reference = change(file["kspace"][()], file["reconstruction_rss"][()])
        del file["kspace"], file["reconstruction_rss"], file["ismrmrd_header"]
        file["kspace"] = kspace.astype(np.complex64)
        file["reconstruction_rss"] = reference.astype(np.float32)
    return Volume(path)


@pytest.fixture
def path(volume_writer, tmp_path):
    return volume_writer(tmp_path / "a.h5", n_slices=2, matrix=(48, 48), scale=3.0)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_and_refused_where_it_is_certain(path, fault):
    change, words, is_refused = FAULTS[fault]
    for mode in ("full", "quick") if fault not in OF_SLICES else ("full",):
        volume = changed(path, change) if mode == "full" else Volume(path)
        if not is_refused:
            note = check_volumes([volume], mode)[0]
        else:
            with pytest.raises(InputError, match=r"a.h5: .*\(1 of 1 files\); if it is meant so: --data") as no:
                check_volumes([volume], mode)
            note = str(no.value)
            assert check_volumes([Volume(path)], mode, "warn")[0] in note
        assert len(note.splitlines()) == 1
        assert re.search(words, note)
        assert not [line for line in check_volumes([Volume(path)], mode, "off") if "kspace" in line]


def test_one_line_for_each_kind_of_fault(volume_writer, tmp_path):
    for i, fault in enumerate(("mirrored", "numpy's FFT", "mirrored")):
        changed(volume_writer(tmp_path / f"{i}.h5", matrix=(48, 48), seed=i), FAULTS[fault][0])
    volume_writer(tmp_path / "sound.h5", matrix=(48, 48))
    with pytest.raises(InputError) as refused:
        check_volumes([Volume(path) for path in sorted(tmp_path.glob("*.h5"))])
    mirrored, scaled = str(refused.value).splitlines()
    assert mirrored.startswith("0.h5: the image of kspace is mirrored left-right")
    assert mirrored.endswith("(2 of 4 files)")
    assert "1.h5: the reference is 0.01473 times" in scaled


def test_the_folder_of_a_configuration_is_checked_as_it_says(volume_writer, tmp_path):
    for i in range(3):
        changed(volume_writer(tmp_path / f"{i}.h5", matrix=(48, 48), seed=i), FAULTS["mirrored"][0])
    for how, n_notes in (("warn", 1), ("off", 0)):
        config = DataConfig(path=str(tmp_path), check_reference=how)
        volumes, notes = select(open_folder(config, 0), config, "all", 0)
        assert (len(volumes), len(notes)) == (3, n_notes)
    with pytest.raises(InputError, match="unknown reference check 'of'; did you mean 'off'"):
        check_volumes([], "auto", "of")


@pytest.mark.parametrize("shape", [(48, 40), (41, 37), (30, 44)])
@pytest.mark.parametrize("scale", [1e-24, 1e-5, 1e20])
def test_the_image_is_fastmris(shape, scale):
    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal((3, 60, 44, 2)) @ np.array([1, 1j]) * scale).astype(np.complex64)
    theirs = fastmri.rss_complex(fastmri.ifft2c(torch.view_as_real(torch.from_numpy(kspace / np.float32(scale)))))
    expected = center_crop(theirs, shape).numpy()
    np.testing.assert_allclose(rss_image(kspace, shape) / scale, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.realdata
def test_no_measured_file_is_suspected(shared_data):
    volumes = [Volume(path) for path in sorted(shared_data.glob("*coil/*.h5"))]
    assert len(volumes) == 8
    assert check_volumes(volumes, "full") == []


@pytest.mark.realdata
@pytest.mark.parametrize("by", [-8, 8])
def test_measured_kspace_whose_peak_lies_8_columns_off_is_told(shared_data, by):
    for path in sorted(shared_data.glob("*coil/*.h5")):
        volume = Volume(path)
        i = volume.n_slices // 2
        found = find_disagreement(
            {i: np.roll(volume.kspace(i), by, -1)}, {i: volume.target(i)}, volume.image_shape, True
        )
        assert found is not None
        assert found.kind == "off centre"


@pytest.mark.realdata
@pytest.mark.parametrize("kind", ["multicoil", "singlecoil"])
def test_a_lab_that_filters_or_undersamples_is_not_refused(shared_data, kind):
    """Smoothed references, and k-space undersampled eightfold with the reference of all of it."""
    for path in sorted((shared_data / kind).glob("*.h5")):
        volume = Volume(path)
        i = volume.n_slices // 2
        kspace, target = volume.kspace(i), volume.target(i)
        smooth = (target + sum(np.roll(target, s, a) for s in (-1, 1) for a in (0, 1))) / 5
        assert find_disagreement({i: kspace}, {i: smooth}, volume.image_shape, True) is None
        columns = np.arange(volume.shape[-1])
        kept = (columns % 8 == 0) | (abs(columns - len(columns) // 2) < 0.02 * len(columns))
        found = find_disagreement({i: np.where(kept, kspace, 0)}, {i: target}, volume.image_shape, False)
        assert found is None or not found.is_certain


def test_slices_of_nothing_say_nothing(volume_writer, tmp_path):
    kspace = np.zeros((2, 48, 40), np.complex64)
    assert find_disagreement({0: kspace}, {0: np.zeros((48, 40), np.float32)}, (48, 40), True) is None
    volume = Volume(volume_writer(tmp_path / "a.h5"))
    slices = {0: kspace, 1: volume.kspace(1)}
    assert find_disagreement(slices, {0: kspace[0].real, 1: volume.target(1)}, volume.image_shape, True) is None
