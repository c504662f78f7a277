"""Zero-filled equals fastMRI's way to it."""

import fastmri
import numpy as np
import pytest
import torch
from fastmri.data import transforms as fastmri_transforms
from torch.utils.data import DataLoader

from mrirecon.data import SliceDataset, to_image
from mrirecon.reconstruct import METHODS, ZeroFilled
from mrirecon.tables.entry import builder


@pytest.mark.parametrize("n_coils", [1, 4])
def test_equals_fastmri(tmp_path, volume_writer, n_coils):
    volume_writer(tmp_path / "v.h5", n_coils=n_coils)
    measured = SliceDataset(tmp_path)
    images = SliceDataset(tmp_path, transform=to_image)
    reconstruct = ZeroFilled()
    for sample, batch in zip(measured, DataLoader(images, batch_size=1), strict=True):
        coils = fastmri.ifft2c(torch.view_as_real(sample.masked_kspace))
        cropped = fastmri_transforms.complex_center_crop(coils, sample.crop_shape)
        expected = fastmri.rss(fastmri.complex_abs(cropped), dim=0)
        image = reconstruct(batch)
        assert image.shape == (1, *sample.crop_shape)
        np.testing.assert_allclose(image[0], expected, rtol=1e-5, atol=1e-6 * float(expected.max()))


def test_it_is_found_by_its_name():
    assert builder(METHODS[ZeroFilled.name].build) is ZeroFilled
    assert ZeroFilled.name == "zero-filled"


def test_it_has_the_name_that_it_had():
    from mrirecon import classical

    assert classical.METHODS is METHODS
    assert classical.ZeroFilled is ZeroFilled
