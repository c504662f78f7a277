"""The network's input against fastMRI's transform, and what fastMRI's own gets wrong."""

import numpy as np
import pytest
import torch
from fastmri.data import SliceDataset as FastMRISlices
from fastmri.data.subsample import create_mask_for_mask_type
from fastmri.data.transforms import UnetDataTransform, VarNetDataTransform
from torch.utils.data import default_collate

from mrirecon.data import SliceDataset, normalize, to_image, unnormalize
from mrirecon.data.transforms import apply_mask, image_statistics, measured_mask, zero_filled


def fastmri_samples(folder, kind, name="random"):
    mask = create_mask_for_mask_type(name, [0.08], [4])
    return FastMRISlices(folder, kind, transform=UnetDataTransform(kind, mask, use_seed=True))


def assert_equals_fastmri(folder, kind, name="random", eps=1e-11):
    """Images, statistics, normalised values and masks of every slice; fastMRI adds `eps` to the SD."""
    ours = SliceDataset(folder, name, 4, 0.08, transform=to_image)
    theirs = fastmri_samples(folder, kind, name)
    assert len(ours) == len(theirs) > 0
    for sample, expected in zip(ours, theirs, strict=True):
        assert (sample.volume, sample.slice_idx) == (expected.fname, expected.slice_num)
        torch.testing.assert_close(sample.mean, expected.mean, rtol=2e-6, atol=0)
        torch.testing.assert_close(sample.std, expected.std, rtol=2e-5, atol=0)
        ratio = sample.std / (sample.std + eps)
        ours_normal = normalize(sample.image, sample.mean, sample.std) * ratio
        torch.testing.assert_close(ours_normal, expected.image, rtol=2e-5, atol=2e-5)
        ours_target = normalize(sample.target, sample.mean, sample.std)
        inside = ours_target.abs() < 5.9
        torch.testing.assert_close((ours_target * ratio)[inside], expected.target[inside], rtol=2e-5, atol=2e-5)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["random", "equispaced_fraction"])
@pytest.mark.parametrize("kind", ["multicoil", "singlecoil"])
def test_equals_fastmri_on_real_files(shared_data, kind, name):
    assert_equals_fastmri(shared_data / kind, kind, name)


@pytest.mark.parametrize(("kind", "coils"), [("multicoil", 5), ("singlecoil", 1)])
@pytest.mark.parametrize("matrix", [(48, 40), (47, 53)])
def test_equals_fastmri_on_synthetic_files(volume_writer, tmp_path, kind, coils, matrix):
    for i in range(2):
        volume_writer(tmp_path / f"file{i}.h5", n_coils=coils, matrix=matrix, padding=(2, 3), seed=i)
    assert_equals_fastmri(tmp_path, kind)


def test_kspace_equals_fastmris_but_for_the_sign_of_zero(volume_writer, tmp_path):
    volume_writer(tmp_path / "file.h5")
    mask = create_mask_for_mask_type("random", [0.08], [4])
    expected = FastMRISlices(tmp_path, "multicoil", transform=VarNetDataTransform(mask))[1]
    sample = SliceDataset(tmp_path)[1]
    assert torch.equal(torch.view_as_real(sample.masked_kspace), expected.masked_kspace)
    assert torch.equal(sample.mask, expected.mask.flatten())
    assert sample.data_range == pytest.approx(expected.max_value, rel=1e-7)


def test_unsampled_columns_tell_nothing(volume_writer, tmp_path):
    """A product with 0 keeps the sign of what was removed."""
    volume_writer(tmp_path / "file.h5", n_slices=1)
    sample = SliceDataset(tmp_path)[0]
    values = torch.view_as_real(sample.masked_kspace)
    removed = values[:, :, ~sample.mask]
    assert removed.numel() > 1000
    assert not torch.signbit(removed).any()
    assert (removed == 0).all()
    kept = torch.view_as_real(torch.from_numpy(SliceDataset(tmp_path).volumes[0].kspace(0)))[:, :, sample.mask]
    assert torch.equal(values[:, :, sample.mask], kept)


def test_masking_removes_nan_too():
    kspace = torch.full((2, 3, 4), complex(float("nan"), 1))
    assert torch.equal(apply_mask(kspace, torch.zeros(4, dtype=torch.bool)), torch.zeros(2, 3, 4) + 0j)


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("scale", [1e-24, 5e-8, 1.0, 150.0, 1e24])
def test_normalised_values_do_not_depend_on_the_scale(volume_writer, tmp_path, scale, coils):
    """fastMRI's own are off by 1e-11 / SD: 1e13 times too small at the first of these scales."""
    folders = []
    for name, factor in (("one", 1.0), ("scaled", scale)):
        volume_writer(tmp_path / name / "file.h5", n_slices=1, n_coils=coils, scale=factor)
        folders.append(SliceDataset(tmp_path / name, transform=to_image)[0])
    one, scaled = (normalize(sample.image, sample.mean, sample.std) for sample in folders)
    torch.testing.assert_close(one, scaled, rtol=1e-4, atol=1e-4)
    targets = [normalize(sample.target, sample.mean, sample.std) for sample in folders]
    torch.testing.assert_close(*targets, rtol=1e-4, atol=1e-4)
    assert folders[1].data_range / scale == pytest.approx(folders[0].data_range, rel=1e-5)


def test_statistics_are_those_of_double_precision():
    image = torch.rand(320, 320, generator=torch.Generator().manual_seed(0)) * 1e-3 + 1000
    mean, std = image_statistics(image)
    values = image.numpy().astype(float)
    assert mean.item() == np.float32(values.mean())
    assert std.item() == np.float32(values.std(ddof=1))


@pytest.mark.parametrize("value", [0.0, 0.1, 3e-8, 1e20])
@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (1, 1)])
def test_a_constant_slice_is_normalised_to_0_and_comes_back_whatever_the_network_makes_of_it(value, shape):
    """fastMRI's chain does so for an empty slice; a deviation of 1 would be 1 in the data's own unit."""
    image = torch.full(shape, value)
    mean, std = image_statistics(image)
    assert std == 0
    assert mean.item() == pytest.approx(value)
    assert not normalize(image, mean, std).any()
    assert not normalize(image + 1, mean, std).any()
    assert torch.equal(unnormalize(torch.full(shape, 0.7), mean, std), mean.expand(shape))


def test_normalised_values_are_clamped_and_the_target_is_not(volume_writer, tmp_path):
    volume_writer(tmp_path / "file.h5", n_slices=1)
    sample = SliceDataset(tmp_path, transform=to_image)[0]
    spot = sample.target.clone()
    spot[3, 3] = 1e6
    normal = normalize(spot, sample.mean, sample.std)
    assert normal.max() == 6
    assert torch.equal(sample.target, torch.from_numpy(SliceDataset(tmp_path).volumes[0].target(0)))
    assert sample.target.max() == sample.data_range


def test_unnormalize_undoes_normalize_on_batches():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 5, 4, generator=generator)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([1.0, 2.0, 0.5])
    normal = normalize(images, mean, std)
    for i in range(3):
        torch.testing.assert_close(normal[i], normalize(images[i], mean[i], std[i]))
    torch.testing.assert_close(unnormalize(normal, mean, std), images)
    torch.testing.assert_close(unnormalize(normal.double(), mean.double(), std.double()), images.double())
    assert normalize(images, mean.double(), std.double()).dtype == torch.float32


def test_samples_collate(volume_writer, tmp_path):
    for i in range(2):
        volume_writer(tmp_path / f"{i}.h5", seed=i)
    for transform in (None, to_image):
        samples = SliceDataset(tmp_path, transform=transform)
        batch = default_collate([samples[0], samples[4]])
        assert type(batch) is type(samples[0])
        assert list(batch.volume) == ["0.h5", "1.h5"]
        assert batch.slice_idx.tolist() == [0, 1]
        assert batch.acceleration.tolist() == [4, 4]
        assert torch.equal(batch.target[1], samples[4].target)
    images = default_collate([samples[0], samples[4]])
    assert images.image.shape == (2, 48, 40)
    assert images.mean.shape == (2,)
    assert normalize(images.image, images.mean, images.std).dtype == torch.float32


def test_images_narrower_than_the_target_are_padded(volume_writer, tmp_path):
    """fastMRI's FLAIR_203 files."""
    import h5py

    path = volume_writer(tmp_path / "file.h5", n_slices=1, matrix=(48, 40))
    with h5py.File(path, "r+") as file:
        del file["reconstruction_rss"]
        file["reconstruction_rss"] = np.ones((1, 48, 46), np.float32)
    sample = SliceDataset(tmp_path, transform=to_image)[0]
    assert sample.image.shape == sample.target.shape == (48, 46)
    assert not sample.image[:, :3].any()
    assert not sample.image[:, -3:].any()
    assert sample.image[:, 3:-3].all()


def test_the_crop_comes_after_the_transform(volume_writer, tmp_path):
    """Readout oversampling: cropping k-space would change the resolution, cropping the image does not."""
    volume_writer(tmp_path / "file.h5", n_slices=1, noise=0)
    volume = SliceDataset(tmp_path).volumes[0]
    full = zero_filled(torch.from_numpy(volume.kspace(0)), volume.image_shape)
    torch.testing.assert_close(full, torch.from_numpy(volume.target(0)), rtol=1e-5, atol=1e-6)


def test_a_file_without_target_gives_an_empty_one(volume_writer, tmp_path):
    volume_writer(tmp_path / "file.h5", mask=np.arange(40) % 2 == 0, target=False)
    sample = SliceDataset(tmp_path, mask="file", transform=to_image)[0]
    assert sample.target.numel() == 0
    assert sample.data_range == 0
    assert sample.image.shape == (48, 40)
    assert torch.isfinite(sample.image).all()


def test_measured_are_columns_unless_rows_were_left_out_too():
    kspace = torch.randn(3, 2, 32, 36, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    columns = torch.zeros(3, 36, dtype=torch.bool)
    columns[:, 4:32:3] = columns[:, 14:22] = True
    kspace = torch.where(columns[:, None, None], kspace, 0)
    drawn = columns.clone()
    drawn[:, 1] = drawn[:, 34] = True  # in the padding
    kspace[2, :, :6] = 0  # rows that were not acquired, in all columns
    kspace[0, :, 3, 16] = 0  # a sample that happens to be zero
    assert torch.equal(measured_mask(kspace, drawn), columns)
    kspace[1, :, torch.arange(32) % 2 == 0, 10:30] = 0
    kspace[1, :, 0, 14] = 1  # so that no row is empty
    found = measured_mask(kspace, drawn)
    assert torch.equal(found[0], columns[0].expand(32, 36))
    assert torch.equal(found[1], (kspace[1] != 0).any(0))
    assert torch.equal(found[2], columns[2].expand(32, 36))
