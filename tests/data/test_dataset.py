"""Slices of many volumes: indices, masks, worker processes, memory."""

import os
import pickle
import random
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from mrirecon.data import SliceDataset, Volume, check_volumes, to_image
from mrirecon.data.hdf5.opening import close
from mrirecon.data.loading.loaders import load_units
from mrirecon.data.samples import NEEDS, uncollated
from mrirecon.errors import InputError
from mrirecon.physics import Sense, center_fit

FIELDS = ("image", "mean", "std", "combined", "masked_kspace", "mask", "smaps")  # tensors that somebody may ask for


@pytest.fixture
def folder(volume_writer, tmp_path):
    volume_writer(tmp_path / "a.h5", n_slices=3, seed=1)
    volume_writer(tmp_path / "b.h5", n_slices=5, n_coils=2, matrix=(32, 48), seed=2)
    return tmp_path


def test_items(folder):
    dataset = SliceDataset(folder)
    assert len(dataset) == 8
    assert dataset.items == [(0, i) for i in range(3)] + [(1, i) for i in range(5)]
    assert dataset.image_shapes == [(48, 40)] * 3 + [(32, 48)] * 5
    assert [(dataset[i].volume, dataset[i].slice_idx) for i in (2, 3)] == [("a.h5", 2), ("b.h5", 0)]


def test_negative_indices_and_out_of_range(folder):
    dataset = SliceDataset(folder)
    assert torch.equal(dataset[-1].target, dataset[7].target)
    assert (dataset[-8].volume, dataset[-8].slice_idx) == ("a.h5", 0)
    for i in (8, -9, 100):
        with pytest.raises(IndexError):
            dataset[i]
        with pytest.raises(IndexError):
            dataset[i, 3]
    assert len(list(dataset)) == 8


def test_volumes_or_folder(folder):
    volumes = [Volume(folder / "b.h5", folder.parent)]
    dataset = SliceDataset(volumes, slices=(1, 3))
    assert [item for _, item in dataset.items] == [1, 2, 3]
    assert dataset[0].volume == f"{folder.name}/b.h5"
    assert dataset.volumes == volumes


def test_selected_slices_keep_the_data_range_of_all(folder):
    volume = Volume(folder / "b.h5")
    maxima = [volume.target(i).max() for i in range(5)]
    lowest = int(np.argmin(maxima))
    sample = SliceDataset([volume], slices=[lowest, lowest])[0]
    assert sample.data_range == max(maxima) > sample.target.max()


def test_slices_outside_are_an_error(folder):
    with pytest.raises(InputError, match="a.h5 has slices 0 to 2"):
        SliceDataset(folder, slices=[1, 3])


def test_all_slices_of_a_volume_share_the_evaluation_mask(folder):
    dataset = SliceDataset(folder)
    ids = [dataset[i].mask_id for i in range(8)]
    assert len(set(ids[:3])) == len(set(ids[3:])) == 1
    other = SliceDataset(folder, draw=1)
    assert other[0].mask_id != ids[0]


def test_training_masks_depend_on_the_seed_alone(folder):
    dataset = SliceDataset(folder, acceleration=[4, 8])
    first = [dataset[0, seed].mask_id for seed in range(10)]
    assert len(set(first)) > 8
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert [dataset[0, seed].mask_id for seed in range(10)] == first
    assert {dataset[0, seed].acceleration for seed in range(20)} == {4, 8}
    assert torch.equal(dataset[0, 3].target, dataset[0].target)


def test_without_a_mask_only_a_files_own_one_is_applied(volume_writer, tmp_path):
    own = np.arange(40) % 3 == 0
    full = Volume(volume_writer(tmp_path / "full.h5", padding=(4, 6)))
    dataset = SliceDataset([full, Volume(volume_writer(tmp_path / "own.h5", mask=own, padding=(4, 6)))], mask=None)
    for sample in (dataset[1], dataset[1, 7]):
        np.testing.assert_array_equal(sample.masked_kspace, full.kspace(1))
        assert (sample.acceleration, sample.acceleration_true) == (1, 1)
    assert dataset[3].mask.tolist() == own.tolist()
    assert dataset[3].acceleration_true == 30 / own[4:34].sum()


def test_without_targets_references_are_not_read(folder, monkeypatch):
    expected = [sample.masked_kspace for sample in SliceDataset(folder)]
    monkeypatch.setattr(Volume, "target", lambda *_: pytest.fail("a reference was read"))
    for sample, kspace in zip(SliceDataset(folder, targets=False), expected, strict=True):
        assert torch.equal(sample.masked_kspace, kspace)
        assert (sample.target.numel(), sample.data_range) == (0, 0)


def test_center_fractions_are_paired_with_accelerations(folder):
    dataset = SliceDataset(folder, acceleration=[4, 8], center_fraction=[0.1, 0.05])
    assert dataset.spec.center_fractions == (0.1, 0.05)
    with pytest.raises(InputError, match="1 center fractions for 2"):
        SliceDataset(folder, acceleration=[4, 8], center_fraction=[0.1])


def test_a_selection_is_not_remembered(folder):
    """fastMRI's metadata cache gave the slices of an earlier, filtered run."""
    assert len(SliceDataset(folder, slices=[0, 0])) == 2
    assert len(SliceDataset(folder)) == 8
    assert not [path for path in Path.cwd().iterdir() if path.suffix == ".pkl"]


def test_a_stray_file_is_left_alone(folder):
    (folder / "notes.txt").write_text("hello")
    assert len(SliceDataset(folder)) == 8


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_give_the_same_samples(folder, context):
    dataset = SliceDataset(folder, transform=to_image)
    batches = [[(i, 10 + i)] for i in range(8)]
    alone = [dataset[i, 10 + i] for i in range(8)]
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=2, multiprocessing_context=context)
    for sample, batch in zip(alone, loader, strict=True):
        assert torch.equal(sample.image, batch.image[0])
        assert sample.mask_id == batch.mask_id[0]


def test_nan_met_by_a_worker_names_the_file(folder):
    import h5py

    with h5py.File(folder / "b.h5", "r+") as file:
        file["kspace"][4] = np.nan
    dataset = SliceDataset(folder, transform=to_image)
    loader = DataLoader(dataset, batch_size=None, num_workers=1)
    with pytest.raises(InputError, match=r"b.h5: kspace holds NaN or infinity in slice 4"):
        list(loader)


def test_a_data_set_is_small_when_pickled(folder):
    dataset = SliceDataset(folder)
    dataset[0]
    assert len(pickle.dumps(dataset)) < 10_000


@pytest.mark.slow
def test_memory_is_flat_over_epochs(volume_writer, tmp_path):
    """Resident memory of main and worker processes, printed after each of 5 epochs with 2 workers."""
    for i in range(24):
        volume_writer(tmp_path / f"{i}.h5", n_slices=10, n_coils=8, matrix=(128, 128), seed=i)
    dataset = SliceDataset(tmp_path, transform=to_image)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    used = []
    for epoch in range(5):
        for _ in loader:
            pass
        main = resident(os.getpid())
        workers = [resident(worker.pid) for worker in loader._iterator._workers]
        used.append(main + sum(workers))
        print(f"epoch {epoch + 1}: main {main:.1f} MiB, workers {', '.join(f'{w:.1f}' for w in workers)} MiB")
    data = sum(path.stat().st_size for path in tmp_path.iterdir()) / 2**20
    print(f"data {data:.0f} MiB")
    assert used[-1] - used[1] < 0.02 * data


def resident(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_samples_carry_what_is_asked_for_and_nothing_else(folder):
    whole = SliceDataset(folder)[0]
    for needs in (("image",), ("combined",), ("kspace",), ("mask",), ("smaps",), ("smaps", "image", "mask"), ()):
        sample = SliceDataset(folder, needs=needs)[0]
        filled = {name for name in FIELDS if torch.as_tensor(getattr(sample, name)).numel()}
        assert filled == {field for need in needs for field in NEEDS[need] if field in FIELDS}
        assert torch.equal(sample.target, whole.target)
        assert sample.mask_id == whole.mask_id
    with pytest.raises(InputError, match="unknown part of a sample 'kspac'; did you mean 'kspace'"):
        SliceDataset(folder, needs=("kspac",))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("needs", [(), ("image",), ("image", "combined", "kspace", "mask", "smaps")])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_those_of_torchs_collate(folder, needs, workers):
    """And a sample of a batch is the sample that went into it."""
    dataset = SliceDataset(folder, needs=needs)
    (batch,) = load_units(dataset, [[0, 1]], workers)
    expected = default_collate([dataset[0], dataset[1]])
    assert same(batch, expected)
    assert same(uncollated(batch, 1), dataset[1])


def test_smaps_have_unit_energy_and_combine_to_the_complex_image(folder):
    sample = SliceDataset(folder, needs=("kspace", "smaps", "combined", "image"))[0]
    energy = sample.smaps.abs().square().sum(0)
    torch.testing.assert_close(energy, torch.ones_like(energy))
    full = torch.ones(sample.smaps.shape[-1], dtype=torch.bool)
    combined = center_fit(Sense(sample.smaps, full).adjoint(sample.masked_kspace), sample.crop_shape)
    torch.testing.assert_close(combined, sample.combined)


def test_objects_are_known_from_the_check_alone(tmp_path, volume_writer, monkeypatch):
    """A folder that has not changed is indexed without opening its files, which takes time on a server."""
    path = volume_writer(tmp_path / "v0.h5")
    with h5py.File(path, "r+") as file:
        file["object_mask"] = np.ones((3, 48, 40), bool)
    volume = Volume(path)
    check_volumes([volume])
    monkeypatch.setattr(h5py, "File", None)
    assert SliceDataset([volume], object_masks=True).with_object_mask == {"v0.h5"}


def test_the_fingerprint_that_studies_keep_knows_no_object(tmp_path, volume_writer):
    path = volume_writer(tmp_path / "v0.h5")
    before = Volume(path).fingerprint()
    close(path)
    with h5py.File(path, "r+") as file:
        file["object_mask"] = np.ones((3, 48, 40), bool)
    assert Volume(path).fingerprint() == before
