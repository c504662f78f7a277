"""The SSIM maps that a GPU computes are scikit-image's, and scores made of them those of the CPU; on CPU tensors."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from mrirecon.errors import InputError
from mrirecon.evaluation import VolumeMetrics, slice_rows
from mrirecon.evaluation.metrics import SlicePair, Target, similarity_maps
from mrirecon.evaluation.slice_rows import SliceRows
from mrirecon.tables.metrics import METRICS, OBJECT_SIZE

SHAPE = (3, 53, 41)


def batch(scale, dtype=torch.float32):
    """Smooth slices with air around them, and noisy images of them; each slice has its own data range."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    disc = ((y - 26) / 22) ** 2 + ((x - 20) / 15) ** 2 < 1
    target = scale * disc * (1.5 + np.sin(y / 5) * np.cos(x / np.arange(3, 6)[:, None, None]))
    image = np.abs(target + 0.05 * scale * rng.standard_normal(SHAPE))
    target, image = (torch.from_numpy(values).to(dtype) for values in (target, image))
    return target, image, target.amax(dim=(1, 2)) * torch.tensor([1.0, 1.2, 3.0])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_equal_scikit_image_and_the_cpu(scale, dtype):
    target, image, data_range = batch(scale, dtype)
    maps = similarity_maps(target, image, data_range)
    assert maps.dtype == torch.float64
    for x, y, span, found in zip(target.double(), image.double(), data_range.tolist(), maps, strict=True):
        _, full = structural_similarity(x.numpy(), y.numpy(), data_range=span, full=True)
        np.testing.assert_allclose(found, full[3:-3, 3:-3], atol=1e-9)
        here = np.concatenate(SlicePair(Target(x.numpy(), span), y.numpy()).similarity)
        np.testing.assert_allclose(found, here, atol=1e-11)


def rows(on_accelerator, monkeypatch, metrics=tuple(METRICS)):
    monkeypatch.setattr(slice_rows, "_are_on_accelerator", lambda _batches: on_accelerator)
    target, image, data_range = batch(2.0)
    data_range[2] = 0  # which has no SSIM
    slices = SliceRows(["v"], metrics)
    found = slices.of_batch(target, [image, 0.9 * image], data_range, ["v"] * 3, torch.arange(3))
    return slices.columns, found.reshape(3, 2, -1)[..., 3:]


def test_columns_of_slices_are_those_of_the_cpu(monkeypatch):
    """SSIM to 1e-6 (in fact 1e-12), counts and errors, which are computed on the CPU, bit for bit."""
    columns, on_device = rows(True, monkeypatch)
    _, here = rows(False, monkeypatch)
    for k, name in enumerate(columns):
        of_map = name in ("ssim", "ssim_object")
        torch.testing.assert_close(
            on_device[..., k], here[..., k], rtol=0, atol=1e-12 if of_map else 0, equal_nan=True, msg=name
        )
    assert here[..., columns.index(OBJECT_SIZE)].min() > 0
    assert here[2, :, columns.index("ssim")].isnan().all()


def test_maps_are_made_once_for_a_batch_and_only_where_a_metric_asks(monkeypatch):
    made, original = [], similarity_maps
    monkeypatch.setattr(slice_rows, "similarity_maps", lambda *a: made.append(a[0].shape) or original(*a))
    rows(True, monkeypatch)
    assert made == [SHAPE, SHAPE]  # of two images
    rows(True, monkeypatch, ("psnr", "nmse"))
    rows(False, monkeypatch)
    assert len(made) == 2


def test_wrong_images_are_named_there_too(monkeypatch):
    monkeypatch.setattr(slice_rows, "_are_on_accelerator", lambda _batches: True)
    target, image, data_range = batch(1.0)
    with pytest.raises(InputError, match="differ in shape"):
        VolumeMetrics(["v"]).update(target, image[..., 1:], data_range, ["v"] * 3, torch.arange(3))
    with pytest.raises(InputError, match="too small"):
        VolumeMetrics(["v"]).update(target[..., :6], image[..., :6], data_range, ["v"] * 3, torch.arange(3))
