"""The written data set: layout, header, other people's readers, reproducibility, whole or not at all."""

import hashlib
from dataclasses import replace

import fastmri.data
import h5py
import ismrmrd
import numpy as np
import pytest
import torch
from fastmri.data.transforms import UnetDataTransform

from mrirecon import progress
from mrirecon.config import SimulateConfig
from mrirecon.data import Volume
from mrirecon.errors import InputError
from mrirecon.physics import center_crop, ifft2c, rss
from mrirecon.workflows import simulate as workflow
from mrirecon.workflows.simulate import simulate_dataset

TINY = SimulateConfig(train=3, val=1, test=1, slices=2, matrix=[40, 32], coils=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return simulate_dataset(replace(TINY, output=str(tmp_path_factory.mktemp("sim") / "set")))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return simulate_dataset(replace(TINY, coils=1, train=1, output=str(tmp_path_factory.mktemp("sim") / "one")))


def _hashes(folder):
    """Of every array and attribute (HDF5 itself may store the time)."""
    found = {}
    for path in sorted(folder.rglob("*.h5")):
        with h5py.File(path) as file:
            digest = hashlib.sha256(repr(sorted(file.attrs.items())).encode())
            for key in sorted(file):
                digest.update(np.asarray(file[key][()]).tobytes())
        found[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return found


def test_every_split_has_its_volumes(folder):
    assert sorted(p.name for p in folder.iterdir()) == ["simulation.yaml", "test", "train", "val"]
    assert [len(list((folder / split).glob("*.h5"))) for split in ("train", "val", "test")] == [3, 1, 1]


def test_the_header_is_valid_under_the_ismrmrd_schema(folder):
    for path in folder.rglob("*.h5"):
        with h5py.File(path) as file:
            header = ismrmrd.xsd.CreateFromDocument(file["ismrmrd_header"][()])
        encoding = header.encoding[0]
        encoded, recon = encoding.encodedSpace, encoding.reconSpace
        assert (encoded.matrixSize.x, encoded.matrixSize.y) == (80, 32)
        assert (recon.matrixSize.x, recon.matrixSize.y) == (40, 32)
        assert encoded.fieldOfView_mm.x == pytest.approx(2 * recon.fieldOfView_mm.x)
        assert encoded.fieldOfView_mm.y / 32 == pytest.approx(recon.fieldOfView_mm.x / 40)
        limits = encoding.encodingLimits.kspace_encoding_step_1
        assert (limits.minimum, limits.center, limits.maximum) == (0, 16, 31)
        assert header.acquisitionSystemInformation.receiverChannels == 3


def test_fastmri_reads_the_files(folder, single):
    for root, challenge in ((folder / "train", "multicoil"), (single / "train", "singlecoil")):
        data = fastmri.data.SliceDataset(
            root, challenge, transform=UnetDataTransform(challenge), use_dataset_cache=False
        )
        assert len(data) == (6 if challenge == "multicoil" else 2)
        sample = data[0]
        assert sample.image.shape == sample.target.shape == (40, 32)
        assert sample.max_value > 0


def test_our_reader_finds_the_stored_reference(folder):
    for path in folder.rglob("*.h5"):
        volume = Volume(path, folder)
        for i in range(volume.n_slices):
            images = center_crop(ifft2c(torch.from_numpy(volume.kspace(i))), volume.image_shape)
            target = volume.target(i)
            assert np.linalg.norm(rss(images).numpy() - target) < 1e-6 * np.linalg.norm(target)


def test_attributes_and_ground_truth(folder):
    patients = set()
    for path in folder.rglob("*.h5"):
        with h5py.File(path) as file:
            assert file.attrs["origin"] == "simulated-from-phantom"
            assert file.attrs["acquisition"].startswith("AXSIM_")
            assert file.attrs["max"] == pytest.approx(file["reconstruction_rss"][()].max())
            assert file["kspace"].dtype == np.complex64
            truth, image = file["ground_truth"][()], file["reconstruction_rss"][()]
            patients.add(file.attrs["patient_id"])
        assert truth.shape == image.shape
        assert 0.001 < np.linalg.norm(truth - image) / np.linalg.norm(truth) < 0.3
    assert len(patients) == 5


def test_single_coil_files_have_no_coil_axis(single):
    path = next((single / "train").glob("*.h5"))
    with h5py.File(path) as file:
        assert file["kspace"].shape == (2, 80, 32)
        np.testing.assert_array_equal(file["reconstruction_esc"][()], file["reconstruction_rss"][()])
    assert Volume(path).single_coil


def test_volumes_differ(folder):
    assert len(set(_hashes(folder).values())) == 5


def test_the_same_seed_gives_the_same_numbers_however_many_volumes_and_threads(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "_n_threads", lambda: 1)
    again = _hashes(simulate_dataset(replace(TINY, train=2, output=str(tmp_path / "again"))))
    first = _hashes(folder)
    assert again == {name: first[name] for name in again}
    other = _hashes(simulate_dataset(replace(TINY, train=1, seed=1, output=str(tmp_path / "other"))))
    assert not set(other.values()) & set(first.values())


def test_a_folder_with_content_is_kept_unless_asked(folder, tmp_path):
    config = replace(TINY, train=1, val=0, test=0, slices=1, coils=1)
    with pytest.raises(InputError, match="overwrite"):
        simulate_dataset(replace(config, output=str(folder)))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="choose another"):
            simulate_dataset(replace(config, output=str(foreign), overwrite=overwrite))
    assert (foreign / "thesis.txt").read_text() == "mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    simulate_dataset(replace(config, output=str(empty)))
    simulate_dataset(replace(config, output=str(empty), overwrite=True, train=2))
    assert len(list(empty.rglob("*.h5"))) == 2


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(workflow, "write_volume", fails)
    with pytest.raises(OSError, match="disk full"):
        simulate_dataset(replace(TINY, output=str(tmp_path / "set")))
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "quiet", False)
    simulate_dataset(replace(TINY, train=1, val=0, test=0, slices=1, coils=1, output=str(tmp_path / "set")))
    assert "simulating: 1 volume" in capsys.readouterr().err


@pytest.mark.realdata
@pytest.mark.parametrize("axis", ["axial", "sagittal"])
def test_a_real_head_keeps_one_patient_over_all_splits(shared_data, tmp_path, axis):
    source = str(shared_data / "images" / "colin27_t1_1mm.nii.gz")
    config = replace(TINY, train=2, slices=3, source=source, axis=axis, output=str(tmp_path / "set"))
    folder = simulate_dataset(config)
    patients, origins = set(), set()
    for path in folder.rglob("*.h5"):
        volume = Volume(path)
        patients.add(volume.patient)
        origins.add(volume.origin)
        assert volume.acquisition == ("AXSIM_MAG" if axis == "axial" else "SAGSIM_MAG")
    assert origins == {"simulated-from-magnitude"}
    assert len(patients) == 1
    assert len(set(_hashes(folder).values())) == 4


@pytest.mark.realdata
def test_a_series_needs_the_number_of_its_volume(shared_data, tmp_path):
    source = str(shared_data / "images" / "nibabel_example4d.nii.gz")
    config = replace(TINY, train=1, val=0, test=0, slices=2, source=source, output=str(tmp_path / "set"))
    with pytest.raises(InputError, match=r"shape \(128, 96, 24, 2\), a series of 2 volumes; choose one"):
        simulate_dataset(config)
    assert list(tmp_path.iterdir()) == []
    made = [_hashes(simulate_dataset(replace(config, frame=i, output=str(tmp_path / f"{i}")))) for i in (0, 1)]
    assert made[0] != made[1]
    assert "frame: 1" in (tmp_path / "1" / "simulation.yaml").read_text()


def test_a_frame_of_a_phantom(tmp_path):
    with pytest.raises(InputError, match="frame is 0; it must be left out of phantoms"):
        simulate_dataset(replace(TINY, frame=0, output=str(tmp_path / "set")))
