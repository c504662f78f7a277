"""What was done to images is found again, and nothing is found in images that are only poor."""

import h5py
import numpy as np
import pytest
from fastmri.data.subsample import create_mask_for_mask_type

from mrirecon.evaluation.resemblance import ORIENTATIONS, UPRIGHT, compare, swapped

INVERSE = {  # of what puts images right, written out by hand
    "x": lambda x: x,
    "x[:, :, ::-1]": lambda x: np.flip(x, 2),
    "x[:, ::-1]": lambda x: np.flip(x, 1),
    "x[:, ::-1, ::-1]": lambda x: np.flip(x, (1, 2)),
    "x.swapaxes(1, 2)": lambda x: np.transpose(x, (0, 2, 1)),
    "np.rot90(x, 1, (1, 2))": lambda x: np.rot90(x, 3, (1, 2)),
    "np.rot90(x, -1, (1, 2))": lambda x: np.rot90(x, 1, (1, 2)),
    "x.swapaxes(1, 2)[:, ::-1, ::-1]": lambda x: np.transpose(np.flip(x, (1, 2)), (0, 2, 1)),
}


def heads(n=6, shape=(96, 96), seed=0):
    """Ellipses with blobs of their own in each slice, on a dark background; one side is not like the other."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 < 1
    slices = []
    for _ in range(n):
        blobs = sum(
            rng.uniform(0.3, 1) * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.02)
            for a, b in rng.uniform(-0.6, 0.6, (6, 2))
        )
        slices.append(inside * (0.5 + blobs))
    return np.array(slices) * 1e-5


def noisy(images, level=0.1, seed=1):
    return np.abs(images + level * images.max() * np.random.default_rng(seed).standard_normal(images.shape))


def undersampled(images, acceleration, kind="random", seed=0):
    """The magnitude of the inverse FFT of the columns that fastMRI's mask keeps."""
    mask_function = create_mask_for_mask_type(kind, [0.32 / acceleration], [acceleration])
    columns = mask_function((1, images.shape[-1], 1), seed=seed)[0].numpy().reshape(-1) > 0
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, (-2, -1))), (-2, -1)) * columns
    return np.abs(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, (-2, -1))), (-2, -1)))


def lies_rightly(found):
    return (found.orientation, found.order, found.shift) == (UPRIGHT, "", (0, 0))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: o.remedy)
@pytest.mark.parametrize("n_slices", [1, 6])
def test_each_orientation_is_found_with_what_puts_it_right(orientation, n_slices):
    target = heads(n_slices)
    image = INVERSE[orientation.remedy](noisy(target))
    found = compare(target, image)
    assert (found.orientation, found.order, found.shift) == (orientation, "", (0, 0))
    right = eval(orientation.remedy, {"np": np, "x": image})
    np.testing.assert_array_equal(right, noisy(target))
    np.testing.assert_array_equal(orientation.put_right(image), right)


@pytest.mark.parametrize(("shape", "names"), [((96, 64), 4), ((64, 64), 8)])
def test_only_squares_can_be_transposed(shape, names):
    target = heads(2, shape)
    fitting = [o for o in ORIENTATIONS if o.put_right(target).shape == target.shape]
    assert len(fitting) == names
    assert {compare(target, INVERSE[o.remedy](target)).orientation.remedy for o in fitting} == {
        o.remedy for o in fitting
    }


@pytest.mark.parametrize(
    ("order", "name"),
    [
        ([5, 4, 3, 2, 1, 0], "in reversed order"),
        ([0, 0, 1, 2, 3, 4], "late by 1"),
        ([1, 2, 3, 4, 5, 5], "early by 1"),
        ([2, 3, 4, 5, 5, 5], "early by 2"),
        ([0, 2, 1, 3, 5, 4], "in another order"),
        ([0, 1, 2, 3, 4, 5], ""),
    ],
)
@pytest.mark.parametrize("factor", [1, 1e9])
def test_the_order_of_slices_is_found_in_any_units(order, name, factor):
    target = heads()
    found = compare(target, factor * noisy(target)[order])
    assert (found.order, found.orientation) == (name, UPRIGHT)
    found = compare(target, factor * noisy(target)[order][..., ::-1])
    assert (found.order, found.orientation.name) == (name, "mirrored left-right")


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (-7, 11), (48, 48)])
def test_a_shift_is_found_in_pixels(shift):
    target = heads()
    found = compare(target, np.roll(undersampled(target, 2), shift, (1, 2)))
    assert found.shift == shift
    assert (found.orientation, found.order) == (UPRIGHT, "")


@pytest.mark.parametrize("scale", [1e-7, 0.5, 255.0, 1e12])
def test_the_scale_is_what_makes_images_as_bright_as_their_targets(scale):
    target = heads()
    image = noisy(target, 0.02)
    found = compare(target, image / scale)
    assert found.scale == pytest.approx(scale, rel=0.02)
    assert compare(target, image[::-1, ::-1] / scale).scale == pytest.approx(scale, rel=0.02)
    hot = np.where(image == image.max(), 1e4 * image, image)
    assert compare(target, hot / scale).scale == pytest.approx(scale, rel=0.02)


def test_slices_with_a_scale_each():
    target = heads() * np.geomspace(1, 5, 6)[:, None, None]
    found = compare(target, noisy(target, 0.001) / target.max((1, 2), keepdims=True))
    assert found.slice_scales == pytest.approx((target[0].max(), target[-1].max()), rel=0.1)


def test_copies_constants_and_negative_values():
    target = heads()
    for image in (target, target.astype(np.float32), 3e4 * target.astype(np.float32)):
        assert compare(target, image).is_copy
    assert not compare(target, target * (1 + 1e-5 * np.random.default_rng(0).standard_normal(target.shape))).is_copy
    assert not compare(target, 0 * target).is_copy
    constant = np.where(np.arange(6)[:, None, None] < 2, 1.0, target)
    assert compare(target, constant).n_constant == 2
    assert compare(np.where(np.arange(6)[:, None, None] < 1, 0.0, target), constant).n_constant == 1
    assert compare(target, target).negative == 0
    standardised = (target - target.mean()) / target.std()
    below = standardised[standardised < 0]
    assert compare(target, standardised).negative == pytest.approx((below**2).sum() / (standardised**2).sum())


def poor_images(target):
    blurred = target
    for _ in range(10):
        blurred = sum(np.roll(blurred, by, axis) for axis in (1, 2) for by in (-1, 0, 1)) / 6
    rng = np.random.default_rng(3)
    yield "noisy", noisy(target, 0.5)
    yield "blurred", blurred
    yield "clipped", np.minimum(target, 0.3 * target.max())
    yield "a hot pixel", np.where(target == target.max(), 100 * target, noisy(target, 0.02))
    yield "one hot slice", noisy(target, 0.02) * np.where(np.arange(len(target)) == 0, 100, 1)[:, None, None]
    yield "noise alone", rng.random(target.shape)
    yield "one slice alone", np.where(np.arange(len(target)) == 0, 1, 0.01)[:, None, None] * noisy(target)
    for acceleration in (2, 4, 8):
        for kind in ("random", "equispaced_fraction"):
            for seed in range(3):
                image = undersampled(target, acceleration, kind, seed)
                yield f"{kind} {acceleration}x {seed}", image
                yield f"{kind} {acceleration}x {seed}, noisy", noisy(image, 0.2)


def symmetric(shape=(4, 80, 80)):
    """Discs, the same when mirrored, rotated and transposed; of three radii."""
    y, x = np.meshgrid(*(np.arange(size) - size / 2 + 0.5 for size in shape[1:]), indexing="ij")
    return np.array([(np.hypot(y, x) < radius) * 1.0 for radius in (20, 25, 25, 30)])


TARGETS = {
    "heads": heads(),
    "one slice": heads(1),
    "not square": heads(3, (120, 60)),
    "small": heads(4, (16, 12)),
    "narrow": heads(2, (400, 8)),
    "symmetric": symmetric(),
    "slices alike": np.repeat(heads(1), 5, 0),
    "blank slices": heads() * np.array([0, 1, 1, 1, 0, 0])[:, None, None],
    "noise": np.random.default_rng(5).random((4, 64, 64)),
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_poor_images(name):
    target = TARGETS[name]
    for kind, image in poor_images(target):
        found = compare(target, image)
        assert lies_rightly(found), kind
        if name == "heads":
            assert not found.is_copy, kind
            assert found.n_constant == 0, kind


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_images_and_targets_of_one_value(value):
    target, constant = heads(), np.full((6, 96, 96), value)
    found = compare(target, constant)
    assert (found.orientation, found.order, found.shift, found.n_constant) == (UPRIGHT, "", (0, 0), 6)
    assert lies_rightly(compare(0 * target, target))
    assert compare(0 * target, constant).n_constant == 0


def test_images_of_another_volume_are_told():
    targets = [heads(3, seed=seed) for seed in range(6)] + [heads(3, (60, 40), seed=9)]
    images = [noisy(target) for target in targets]
    assert swapped([compare(*pair) for pair in zip(targets, images, strict=True)]) == []
    order = [0, 2, 1, 3, 4, 5, 6]
    found = [compare(target, images[i]) for target, i in zip(targets, order, strict=True)]
    assert sorted(swapped(found)) == [(1, 2), (2, 1)]
    assert swapped(found[:1]) == []


@pytest.mark.realdata
def test_measured_images_lie_as_they_should_and_what_is_done_to_them_is_found(shared_data):
    """Zero-filled images of one coil made from the references, 2 to 8 times undersampled."""
    for path in sorted(shared_data.glob("*coil/*.h5")):
        with h5py.File(path) as file:
            target = file["reconstruction_rss"][()].astype(float)
        for acceleration in (2, 4, 8):
            for seed in range(2):
                image = undersampled(target, acceleration, seed=seed)
                assert lies_rightly(compare(target, image)), (path.name, acceleration)
                assert lies_rightly(compare(target, noisy(image, 0.2))), (path.name, acceleration)
        image = noisy(undersampled(target, 2), 0.02)
        for turned in (np.flip(image, 1), np.flip(image, 2), np.flip(image, (1, 2))):
            assert compare(target, turned).orientation.name, path.name
