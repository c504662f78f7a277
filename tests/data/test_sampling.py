"""Which positions of k-space were measured: exact zeros in all coils and slices were not."""

import h5py
import numpy as np
import pytest
import torch

from mrirecon.data import SliceDataset
from mrirecon.data.folders.check import check_volumes
from mrirecon.data.hdf5.opening import close
from mrirecon.data.measured_positions import Sampling
from mrirecon.data.transforms import to_complex_image
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError


def emptied(path, rows=slice(None), columns=slice(None), slices=slice(None)):
    """Set samples to 0."""
    close(path)
    with h5py.File(path, "r+") as file:
        kspace = file["kspace"][()]
        kspace[slices][..., rows, :][..., columns] = 0  # slices of slices and of rows are views
        file["kspace"][...] = kspace
    return Volume(path)


@pytest.mark.realdata
def test_no_fully_sampled_measurement_has_gaps_and_the_poisson_pattern_is_seen(shared_data):
    for path in sorted(shared_data.glob("*/*.h5")):
        volume = Volume(path)
        if path.parent.name != "multicoil_undersampled":
            assert volume.is_full
            assert volume.own_mask is None
            assert volume.acquired == volume.header.acquired(volume.shape[-1])
            continue
        measured = (volume.kspace(0) != 0).any(axis=0)
        assert volume.sampling.is_2d
        assert volume.sampling.n_positions == measured.sum() == 5148
        assert volume.sampling.acceleration(volume.acquired) == pytest.approx(229 * 180 / 5148)
        n = volume.sampling.n_center
        height, width = measured.shape
        rows = round(n * height / width)
        top, left = height // 2 - rows // 2, width // 2 - n // 2
        assert 15 < n < 32
        assert measured[top : top + rows, left : left + n].all()


def test_empty_columns_in_between_are_gaps_at_the_edge_they_are_padding(volume_writer, tmp_path):
    padded = emptied(volume_writer(tmp_path / "padded.h5"), columns=np.r_[0:3, 35:40])
    assert not padded.sampling.has_gaps
    assert padded.acquired == slice(3, 35)
    undersampled = emptied(volume_writer(tmp_path / "gaps.h5"), columns=np.r_[0:3, 10])
    assert undersampled.sampling.has_gaps
    assert undersampled.acquired == slice(0, 40)
    assert np.flatnonzero(~undersampled.own_mask).tolist() == [0, 1, 2, 10]


def test_empty_rows_are_a_partial_echo(volume_writer, tmp_path):
    volume = emptied(volume_writer(tmp_path / "a.h5"), rows=slice(0, 20))
    assert volume.is_full
    assert volume.own_mask is None
    assert (volume.sampling.n_rows, volume.sampling.acceleration(slice(0, 40))) == (76, 1)


def test_a_slice_without_samples_says_nothing_and_all_slices_count(volume_writer, tmp_path):
    """The middle slice is empty; another one has a gap that a third does not have."""
    path = volume_writer(tmp_path / "a.h5", n_slices=4)
    emptied(path, slices=slice(2, 3))
    assert Volume(path).is_full
    emptied(path, columns=[7, 8], slices=slice(1, 2))
    assert Volume(path).is_full  # measured in slice 3
    emptied(path, columns=[8], slices=slice(0, 4))
    assert np.flatnonzero(~Volume(path).own_mask).tolist() == [8]


def test_kspace_of_zeros_is_refused(volume_writer, tmp_path):
    volume = emptied(volume_writer(tmp_path / "a.h5"))
    for mode in ("quick", "full"):
        with pytest.raises(InputError, match=r"a.h5: its k-space is 0 everywhere; copy or export it again"):
            check_volumes([Volume(volume.path)], mode)


@pytest.mark.parametrize("mode", ["quick", "full"])
def test_a_check_learns_the_sampling_and_it_survives_json(volume_writer, tmp_path, mode):
    path = volume_writer(tmp_path / "a.h5", mask=np.arange(40) % 3 == 0)
    checked = Volume(path)
    check_volumes([checked], mode)
    learned, direct = checked.__dict__["sampling"], Volume(path).sampling
    assert np.array_equal(learned.columns, direct.columns)
    assert vars(learned) | {"columns": 0} == vars(direct) | {"columns": 0}
    assert Sampling.from_plain(learned.to_plain()).to_plain() == learned.to_plain()


def test_coil_maps_come_from_the_sampled_centre_without_a_data_set_mask_too(volume_writer, tmp_path):
    """Prospectively undersampled: maps of all columns would be aliased."""
    columns = np.arange(40) % 5 == 0
    columns[16:24] = True
    for name in ("with", "without"):
        volume_writer(tmp_path / name / "a.h5", mask=columns)
    with h5py.File(tmp_path / "without" / "a.h5", "r+") as file:
        del file["mask"]
    samples = [
        SliceDataset(tmp_path / name, mask="auto", transform=to_complex_image)[0] for name in ("with", "without")
    ]
    assert torch.equal(samples[0].combined, samples[1].combined)
    assert samples[0].mask_id == samples[1].mask_id
    assert samples[0].acceleration_true == samples[1].acceleration_true == 40 / columns.sum()
    assert SliceDataset(tmp_path / "without", mask=None)[0].n_center == 9  # 15 to 23


def test_slices_that_are_sampled_differently_are_told_and_take_no_drawn_mask(volume_writer, tmp_path):
    """The middle slice is full; or no slice is, but all of them together: the union says too much of both."""
    one = emptied(volume_writer(tmp_path / "one.h5", n_slices=4), columns=np.r_[5:15, 20:36], slices=slice(0, 1))
    path = volume_writer(tmp_path / "two.h5", n_slices=2)
    emptied(path, columns=slice(0, None, 2), slices=slice(0, 1))
    two = emptied(path, columns=slice(1, None, 2), slices=slice(1, 2))
    notes = check_volumes([one, two], "full", "warn")
    (note,) = [line for line in notes if "sampled differently" in line]
    assert note.startswith("one.h5: its slices are sampled differently, slice 0 has fewer samples than others")
    assert note.endswith("(2 of 2 files)")
    assert (one.sampling.uneven_slice, two.sampling.uneven_slice) == (0, 0)
    assert one.sampling.acceleration(one.acquired) == pytest.approx(40 / ((14 + 3 * 40) / 4), rel=1e-3)
    assert two.sampling.acceleration(two.acquired) == 2
    assert two.sampling.n_center == 0
    for volume in (one, two):
        with pytest.raises(InputError, match=r"undersampled already \(its slices differ, slice 0 has fewer samples"):
            SliceDataset([volume], mask="random")[0]
        assert SliceDataset([volume], mask="auto")[0].acceleration_true > 1


def test_a_data_set_mask_of_other_kspace_is_refused(volume_writer, tmp_path):
    columns = np.arange(40) % 4 == 0
    for name, mask in (("ones", np.ones(40, bool)), ("rolled", np.roll(columns, 1))):
        path = volume_writer(tmp_path / f"{name}.h5", mask=columns)
        with h5py.File(path, "r+") as file:
            file["mask"][...] = mask
        with pytest.raises(InputError, match=f"{name}.h5: its data set 'mask' keeps .* columns that k-space lacks"):
            check_volumes([Volume(path)])
