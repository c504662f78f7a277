"""SSIM inside the object: the mean of scikit-image's map over the object's pixels, and where the object is."""

import math

import h5py
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from skimage.metrics import structural_similarity

from mrirecon.errors import InputError
from mrirecon.evaluation import combine_slices, score_slice
from mrirecon.evaluation.foreground import find_object


def head(shape=(3, 90, 77), noise=0.02, seed=0):
    """An ellipse with structure in noise, slices of different size; and where it is."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    inside = np.array([np.hypot(y, 1.3 * x) < r for r in np.linspace(0.5, 0.8, shape[0])])
    image = inside * (0.6 + 0.3 * np.cos(12 * x) * np.cos(9 * y))
    image[:, 40:44, 30:36] = 0  # a cavity
    return np.abs(image + noise * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))), inside


def object_ssim(target, image, data_range, masks=None):
    masks = [None] * len(target) if masks is None else masks
    slices = [score_slice(t, r, data_range, ["ssim_object"], m) for t, r, m in zip(target, image, masks, strict=True)]
    return combine_slices(slices, data_range).scores["ssim_object"]


def by_scikit_image(target, image, data_range, masks):
    """Windows lie inside the image, so the three pixels at its border are the centre of none."""
    means = []
    for t, r, mask in zip(target, image, masks, strict=True):
        similarity = structural_similarity(t, r, data_range=data_range, full=True)[1]
        counted = np.zeros(mask.shape, bool)
        counted[3:-3, 3:-3] = mask[3:-3, 3:-3]
        if counted.any():
            means.append(similarity[counted].mean())
    return np.mean(means)


@pytest.mark.parametrize("kind", ["inside", "everywhere", "border", "one pixel", "an empty slice"])
def test_equals_the_mean_of_scikit_images_map(kind):
    target, inside = head()
    image = target + 0.1 * np.random.default_rng(1).standard_normal(target.shape)
    masks = {"inside": inside, "everywhere": np.ones_like(inside), "one pixel": np.zeros_like(inside)}.get(kind, inside)
    masks = masks.copy()
    if kind == "one pixel":
        masks[:, 50, 20] = True
    if kind == "border":
        masks[:, :5] = True
    if kind == "an empty slice":
        masks[1] = False
    expected = by_scikit_image(target, image, 1.0, masks)
    assert object_ssim(target, image, 1.0, masks) == pytest.approx(expected, rel=1e-10)
    assert object_ssim(target, image, 1.0, torch.from_numpy(masks)) == object_ssim(target, image, 1.0, masks)


def test_everywhere_it_is_ssim():
    target, inside = head()
    image = target + 0.1 * np.random.default_rng(1).standard_normal(target.shape)
    slices = [
        score_slice(t, r, 1.0, ["ssim", "ssim_object"], np.ones_like(m))
        for t, r, m in zip(target, image, inside, strict=True)
    ]
    scores = combine_slices(slices, 1.0).scores
    assert scores["ssim_object"] == pytest.approx(scores["ssim"], rel=1e-14)


def test_what_is_outside_does_not_count():
    """Air that is perfect flatters the whole grid, not the object."""
    target, inside = head(noise=0)
    image = np.where(inside, target + 0.2 * np.random.default_rng(1).standard_normal(target.shape), target)
    deep = np.zeros_like(inside)
    deep[:, 35:55, 30:46] = True  # windows of which no pixel lies outside
    inner = object_ssim(target, image, 1.0, deep)
    assert inner < np.mean([score_slice(t, r, 1.0).ssim for t, r in zip(target, image, strict=True)]) - 0.1
    spoilt = np.where(inside, image, image + 5)
    assert object_ssim(target, spoilt, 1.0, deep) == inner


def test_no_object_has_no_score():
    target, inside = head()
    assert math.isnan(object_ssim(target, target, 1.0, np.zeros_like(inside)))
    noise = np.abs(np.random.default_rng(0).standard_normal((2, 64, 64)))
    assert math.isnan(object_ssim(noise, noise, 100.0))  # slices of air in a volume that is far brighter
    assert math.isnan(object_ssim(np.zeros((1, 64, 64)), np.ones((1, 64, 64)), 1.0))


def test_a_mask_of_another_shape_is_refused():
    target, inside = head()
    with pytest.raises(InputError, match=r"object mask of \(77, 90\) for images of \(90, 77\)"):
        score_slice(target[0], target[0], 1.0, ["ssim_object"], inside[0].T)


@pytest.mark.parametrize("scale", [1e-12, 5e-8, 1.0, 150.0, 1e9])
def test_the_rule_finds_the_object_at_any_scale(scale):
    target, inside = head()
    for t, truth in zip(target, inside, strict=True):
        found = find_object(t * scale, target.max() * scale)
        assert (found == find_object(t, target.max())).all()
        assert found[truth].all()  # with the cavity, which is a hole
        assert not found[~binary_dilation(truth, iterations=4)].any()  # the rim of the object, and no air beyond it


def test_the_rule_drops_specks_and_keeps_two_legs():
    y, x = np.mgrid[:120, :160]
    legs = (np.hypot(y - 60, x - 40) < 25) | (np.hypot(y - 60, x - 110) < 20)
    target = 1.0 * legs
    target[5:9, 5:9] = 0.9
    found = find_object(target, 1.0)
    assert found[legs].all()
    assert not found[:20].any()


@pytest.mark.realdata
def test_the_rule_finds_real_objects(shared_data):
    """None takes the air in, none leaves the middle out; `max` runs from 5e-8 to 150."""
    shares = {}
    for path in sorted(shared_data.glob("*coil/*.h5")):
        with h5py.File(path) as file:
            target = file["reconstruction_rss"][:].astype(float)
        for i, image in enumerate(target):
            found = find_object(image, target.max())
            height, width = found.shape
            shares[path.stem, i] = found.mean()
            assert found[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4].all(), (path.stem, i)
    assert len(shares) > 20
    assert all(0.3 < share < 0.8 for share in shares.values()), shares
