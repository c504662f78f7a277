"""Augmentation against numpy and closed forms: what is done to images, k-space and references, and to which slices."""

import h5py
import numpy as np
import pytest
import torch

from mrirecon.config import AugmentConfig, DataConfig
from mrirecon.data import ReconDataModule, SliceDataset, Volume
from mrirecon.data.augment import Drawn, augmented, contrast, draw, quarter_turns, resampled, rotate, scale
from mrirecon.errors import InputError
from mrirecon.physics import fft2c
from mrirecon.tables.augmentations import AUGMENTATIONS, amounts, check_amounts

ALL = AugmentConfig(flip=0.5, rotate90=0.5, shift=3, scale=0.1, rotate=20.0, contrast=0.3)
SHAPES = [(8, 8), (7, 7), (8, 6), (9, 5), (9, 8)]


def random_images(shape, n_coils=2, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n_coils, *shape)) + 1j * rng.standard_normal((n_coils, *shape))).astype(np.complex64)


def numpy_fft(images):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=axes), norm="ortho"), axes=axes)


def numpy_rss(kspace, shape):
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    top, left = ((n - m) // 2 for n, m in zip(images.shape[-2:], shape, strict=True))
    return np.sqrt((np.abs(images) ** 2).sum(0))[top : top + shape[0], left : left + shape[1]]


def seed_of(name, amount, wanted, images):
    """A seed whose draw of this augmentation alone gives the `wanted` images."""
    for seed in range(500):
        if np.array_equal(draw({name: amount}, seed).moved(torch.from_numpy(images)).numpy(), wanted):
            return seed
    raise AssertionError(f"no {name} of 500 does that")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, volume_writer):
    """The training volumes of a data set; multi-coil, oversampled readout, square images."""
    root = tmp_path_factory.mktemp("augmented")
    for i, split in enumerate(("train", "train", "val")):
        (root / split).mkdir(exist_ok=True)
        volume_writer(root / split / f"{i}.h5", n_slices=2, n_coils=3, matrix=(32, 32), seed=i)
    return root / "train"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axes", [(-2,), (-1,), (-2, -1)])
def test_kspace_of_a_mirror_image_is_that_of_numpys_flip(shape, axes):
    images = random_images(shape)
    seed = seed_of("flip", 0.5, np.flip(images, axes), images)
    kspace, _ = augmented(
        fft2c(torch.from_numpy(images)), torch.empty(0), draw({"flip": 0.5}, seed), slice(0, shape[1]), shape, True
    )
    np.testing.assert_allclose(kspace, numpy_fft(np.flip(images, axes)), atol=2e-6)


@pytest.mark.parametrize("n", [7, 8])
def test_a_mirror_image_is_a_mirrored_kspace_with_a_ramp(n):
    """`K'(k) = K(-k) exp(-2 pi i k e / n)`, e = n - 1 - 2 (n // 2): flip takes the centre n // 2 to n - 1 - n // 2."""
    images = random_images((n, n))
    seed = seed_of("flip", 0.5, np.flip(images, (-1,)), images)
    before = numpy_fft(images)
    drawn, kspace = draw({"flip": 0.5}, seed), torch.from_numpy(before.astype(np.complex64))
    after, _ = augmented(kspace, torch.empty(0), drawn, slice(0, n), (n, n), True)
    k = np.arange(n) - n // 2
    mirrored = before[..., (-k + n // 2) % n]
    offset = n - 1 - 2 * (n // 2)  # -1 of an even n
    np.testing.assert_allclose(after, mirrored * np.exp(-2j * np.pi * k * offset / n), atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_quarter_turns_are_numpys_of_the_central_square(shape, n):
    images = random_images(shape)
    turned = quarter_turns(torch.from_numpy(images), n).numpy()
    if n == 2 or (shape[0] - shape[1]) % 2:
        np.testing.assert_array_equal(turned, np.rot90(images, 2, (-2, -1)))
        return
    side = min(shape)
    top, left = ((m - side) // 2 for m in shape)
    inside = (..., slice(top, top + side), slice(left, left + side))
    expected = np.zeros_like(images)
    expected[inside] = np.rot90(images[inside], n, (-2, -1))
    np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize("shape", [(8, 8), (9, 6)])
def test_a_shift_is_numpys_roll_and_a_phase_ramp_of_kspace(shape):
    images = random_images(shape)
    seed = seed_of("shift", 2, np.roll(images, (1, -2), (-2, -1)), images)
    before = numpy_fft(images)
    drawn, kspace = draw({"shift": 2}, seed), torch.from_numpy(before.astype(np.complex64))
    after, _ = augmented(kspace, torch.empty(0), drawn, slice(0, shape[1]), shape, False)
    ky, kx = (np.arange(n) - n // 2 for n in shape)
    ramp = np.exp(-2j * np.pi * (ky[:, None] * 1 / shape[0] - kx * 2 / shape[1]))
    np.testing.assert_allclose(after, before * ramp, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES[:4])
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_interpolating_quarter_turns_gives_quarter_turns(shape, n):
    images = torch.from_numpy(random_images(shape))
    angle = n * np.pi / 2
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    torch.testing.assert_close(resampled(fft2c(images), matrix), quarter_turns(images, n), rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", [(64, 64), (63, 63), (96, 64)])
@pytest.mark.parametrize(("angle", "factor"), [(0, 1.2), (0, 0.85), (25, 1), (-40, 1), (15, 0.9)])
def test_a_gaussian_turns_and_grows_as_its_formula_says(shape, angle, factor):
    """A blob off the centre; its phase, a ramp, turns with it. Torch's cubics are off by 0.7 % at its frequencies."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    y, x = y[:, None], x[None, :]

    def blob(dy, dx):
        return np.exp(-((dy - 7) ** 2 + (dx + 9) ** 2) / (2 * 4**2) + 0.3j * dx)

    turn = np.deg2rad(angle)
    source = (np.cos(turn) * y + np.sin(turn) * x) / factor, (-np.sin(turn) * y + np.cos(turn) * x) / factor
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ np.eye(2) / factor
    images = torch.from_numpy(blob(y, x).astype(np.complex64))[None]
    np.testing.assert_allclose(resampled(fft2c(images), matrix)[0], blob(*source), atol=8e-3)


@pytest.mark.realdata
def test_resampling_a_measured_brain_is_the_sum_over_its_kspace(shared_data):
    """The image at any point is the inverse DFT there; within 1 %, where cubics without the finer grid are 9 % off."""
    kspace = torch.from_numpy(Volume(shared_data / "multicoil" / "brain_gre_3t_16ch.h5").kspace(0)[:2])
    matrix = rotate(20, np.random.default_rng(1)) @ scale(0.1, np.random.default_rng(2))
    k = np.arange(128) - 64
    rows, columns = np.meshgrid(np.arange(128) - 63.5, np.arange(128) - 63.5, indexing="ij")
    y, x = (a * rows + b * columns - 0.5 for a, b in matrix)  # from the pixel that is the centre of the transform
    inside = (np.abs(y + 0.5) <= 63.5) & (np.abs(x + 0.5) <= 63.5)
    to_y, to_x = (torch.from_numpy(np.exp(2j * np.pi * p.reshape(-1, 1) * k / 128)).to(torch.complex64) for p in (y, x))
    exact = torch.stack([((to_y @ coil) * to_x).sum(1).reshape(128, 128) for coil in kspace]) / 128
    error = (resampled(kspace, matrix) - exact)[:, torch.from_numpy(inside)]
    assert error.norm() < 0.012 * exact[:, torch.from_numpy(inside)].norm()


def test_turns_and_scales_are_drawn_within_their_bounds():
    rng = np.random.default_rng(0)
    factors = np.array([1 / scale(0.25, rng)[0, 0] for _ in range(400)])
    assert 0.8 < factors.min() < 0.82
    assert 1.22 < factors.max() < 1.25
    angles = np.array([np.degrees(np.arctan2(*(matrix := rotate(10, rng))[0, ::-1])) for _ in range(400)])
    assert -10 < angles.min() < -9.7
    assert 9.7 < angles.max() < 10
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(2), atol=1e-12)


def test_what_a_turn_brings_in_from_outside_is_zero():
    images = torch.ones(1, 32, 32, dtype=torch.complex64)
    angle = np.pi / 4
    turned = resampled(fft2c(images), np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]))
    assert turned[0, 0, 0] == turned[0, -1, 0] == turned[0, 0, -1] == turned[0, -1, -1] == 0


@pytest.mark.parametrize("magnitude", [1e-12, 1.0, 1e12])
def test_contrast_is_a_power_of_the_root_sum_of_squares_with_phases_kept(magnitude):
    images = random_images((8, 6), 3) * np.float32(magnitude)
    images[:, 2, 3] = 0
    changed = contrast(0.5, np.random.default_rng(4))(torch.from_numpy(images)).numpy()
    power = 1.5 ** np.random.default_rng(4).uniform(-1, 1)
    before, after = (np.sqrt((np.abs(x.astype(complex)) ** 2).sum(0)) for x in (images, changed))
    assert abs(power - 1) > 0.05
    np.testing.assert_allclose(after, before.max() * (before / before.max()) ** power, rtol=1e-5)
    there = np.abs(images) > 0
    np.testing.assert_allclose(np.angle(changed[there]), np.angle(images[there]), atol=1e-5)
    assert not changed[:, 2, 3].any()
    nothing = torch.zeros(2, 4, 4, dtype=torch.complex64)
    assert torch.equal(contrast(0.5, np.random.default_rng(4))(nothing), nothing)


def test_probabilities_are_what_the_keys_say():
    """Of 2000 draws: 4 standard errors."""
    images = torch.from_numpy(random_images((6, 6), 1))
    within = 4 * np.sqrt(0.3 * 0.7 / 2000)
    both = [draw({"flip": 0.3}, seed).moved(images) for seed in range(2000)]
    up_down = np.mean([torch.equal(x, images.flip(-2)) or torch.equal(x, images.flip(-2, -1)) for x in both])
    left_right = np.mean([torch.equal(x, images.flip(-1)) or torch.equal(x, images.flip(-2, -1)) for x in both])
    assert max(abs(up_down - 0.3), abs(left_right - 0.3)) < within
    turned = [draw({"rotate90": 0.3}, seed).moved(images) for seed in range(2000)]
    shares = [np.mean([torch.equal(x, images.rot90(n, (-2, -1))) for x in turned]) for n in (1, 2, 3)]
    assert abs(sum(shares) - 0.3) < within
    assert all(abs(share - 0.1) < within for share in shares)


def test_each_augmentation_draws_for_itself_and_the_same_again():
    images = torch.from_numpy(random_images((8, 8)))
    both, one = (draw(names, 7) for names in ({"flip": 0.5, "shift": 3, "rotate": 10.0}, {"shift": 3}))
    assert torch.equal(one.moved(images), both.moves[-1](images))
    again = draw({"flip": 0.5, "shift": 3, "rotate": 10.0}, 7)
    assert torch.equal(again.coil_images(images), both.coil_images(images))


@pytest.mark.parametrize(
    ("name", "amount", "move"),
    [
        ("flip", 0.5, lambda x: np.flip(x, (-2,))),
        ("flip", 0.5, lambda x: np.flip(x, (-1,))),
        ("rotate90", 0.5, lambda x: np.rot90(x, 2, (-2, -1))),
    ],
    ids=["up-down", "left-right", "180"],
)
def test_a_moved_sample_is_that_of_the_moved_file(folder, tmp_path, name, amount, move):
    """In all its fields: of a file whose k-space and reference were moved by numpy."""
    with h5py.File(folder / "0.h5") as file:
        attrs, kspace, target = dict(file.attrs), file["kspace"][()], file["reconstruction_rss"][()]
        header = file["ismrmrd_header"][()]
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["kspace"] = numpy_fft(move(images)).astype(np.complex64)
        file["reconstruction_rss"], file["ismrmrd_header"] = move(target), header
        file.attrs.update(attrs)
    few = random_images((64, 32))
    seed = seed_of(name, amount, move(few), few)
    needs = ("image", "kspace", "mask", "smaps", "combined")
    moved = SliceDataset(folder, needs=needs, augment=AugmentConfig(**{name: amount}))[1, 5, seed]
    expected = SliceDataset(tmp_path, needs=needs)[1, 5]
    assert torch.equal(moved.target, expected.target)
    assert torch.equal(moved.mask, expected.mask)
    assert moved.mask_id == expected.mask_id
    for key in ("image", "masked_kspace", "combined", "smaps", "mean", "std"):
        a, b = getattr(moved, key), getattr(expected, key)
        rounding = 1e-4 if key == "smaps" else 2e-6 * float(b.abs().max())  # maps are ratios, of noise in places
        torch.testing.assert_close(a, b, rtol=0, atol=rounding)


def test_quarter_turns_of_an_oversampled_readout_turn_the_reference(folder):
    dataset = SliceDataset(folder, None, needs=("image",), augment=AugmentConfig(rotate90=1.0))
    plain = dataset[0].target.numpy()
    found = dict.fromkeys((1, 2, 3), 0)
    for seed in range(12):
        sample = dataset[0, 0, seed]
        (n,) = (n for n in found if np.array_equal(sample.target, np.rot90(plain, n)))
        found[n] += 1
        np.testing.assert_allclose(sample.image, sample.target, atol=1e-5)  # nothing is undersampled
    assert all(found.values())


@pytest.mark.parametrize("n_coils", [1, 4])
@pytest.mark.parametrize("padding", [(0, 0), (3, 4)])
def test_the_reference_is_the_rss_image_of_the_augmented_kspace(volume_writer, tmp_path, n_coils, padding):
    path = volume_writer(tmp_path / "a.h5", n_coils=n_coils, matrix=(48, 40), padding=padding)
    dataset = SliceDataset([Volume(path)], None, augment=ALL)
    for seed in range(6):
        sample = dataset[1, 0, seed]
        np.testing.assert_allclose(sample.target, numpy_rss(sample.masked_kspace.numpy(), (48, 40)), atol=2e-6)
        assert not torch.allclose(sample.target, dataset[1].target, atol=0.05)
        columns = sample.masked_kspace.abs().amax((0, 1))
        assert not columns[: padding[0]].any()
        assert not columns[40 - padding[1] :].any()


def test_kspace_is_masked_after_it_was_augmented(folder):
    dataset = SliceDataset(folder, augment=ALL)
    sample = dataset[0, 3, 8]
    assert torch.equal(sample.mask, dataset[0, 3].mask)
    assert not sample.masked_kspace[..., ~sample.mask].any()
    whole = SliceDataset(folder, None, augment=ALL)[0, 3, 8].masked_kspace
    assert torch.equal(sample.masked_kspace[..., sample.mask], whole[..., sample.mask])
    assert sample.data_range == dataset[0].data_range


def test_slices_that_nothing_happens_to_stay_as_they_are(folder):
    needs = ("image", "kspace", "mask", "smaps")
    plain, rare = (SliceDataset(folder, needs=needs, augment=a) for a in (None, AugmentConfig(flip=1e-9)))
    for sample, other in ((plain[0, 4], rare[0, 4, 9]), (plain[0, 4], plain[0, 4, 9]), (plain[0], rare[0])):
        for a, b in zip(sample, other, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_only_training_batches_are_augmented(folder):
    data = DataConfig(path=str(folder.parent))
    plain, changed = (ReconDataModule(data, batch_size=2, augment=a) for a in (AugmentConfig(), ALL))
    for a, b in zip(plain.val_dataloader()[0], changed.val_dataloader()[0], strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.target, b.target)
    for a, b in zip(plain.recalibration_batches(2), changed.recalibration_batches(2), strict=True):
        assert torch.equal(a.image, b.image)
    for a, b in zip(plain.train_dataloader(), changed.train_dataloader(), strict=True):
        assert (a.volume, a.slice_idx.tolist(), a.mask_id) == (b.volume, b.slice_idx.tolist(), b.mask_id)
        assert not any(torch.equal(x, y) for x, y in zip(a.target, b.target, strict=True))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_and_processes_augment_alike(folder):
    def batches(workers=0, batch_size=4, rank=0, world_size=1):
        data = DataConfig(path=str(folder.parent), workers=workers, check="none")
        module = ReconDataModule(data, batch_size, augment=ALL, needs=("image", "kspace"))
        module.plan(3)
        loader = module.train_dataloader()
        module.stream.share(rank, world_size)
        return list(loader)

    alone, workers = batches(), batches(workers=2)
    shared = [batches(batch_size=2, rank=rank, world_size=2) for rank in (0, 1)]
    for k, batch in enumerate(alone):
        for key in ("image", "target", "masked_kspace"):
            assert torch.equal(getattr(batch, key), getattr(workers[k], key))
            parts = [getattr(of_rank[k], key) for of_rank in shared]
            assert torch.equal(getattr(batch, key), torch.cat(parts)[: len(batch.image)])


def test_undersampled_files_are_refused(volume_writer, tmp_path):
    mask = np.arange(40) % 2 == 0
    path = volume_writer(tmp_path / "under.h5", mask=mask)
    SliceDataset([Volume(path)], "file")
    with pytest.raises(
        InputError, match=r"^under\.h5: its k-space is undersampled, and augmentation \(augment\.flip\)"
    ):
        SliceDataset([Volume(path)], "file", augment=AugmentConfig(flip=0.5))


def test_references_of_another_kind_are_moved_or_refused(volume_writer, tmp_path):
    """A combined reference, as `reconstruction_esc` of several coils is, follows from no image here."""
    other = np.random.default_rng(0).random((3, 48, 48)).astype(np.float32)
    path = volume_writer(tmp_path / "esc.h5", matrix=(48, 48))
    with h5py.File(path, "r+") as file:
        file["reconstruction_rss"][...] = other
    volume = Volume(path)
    flipped = SliceDataset([volume], augment=AugmentConfig(flip=1.0))[1, 0, 0]
    np.testing.assert_array_equal(flipped.target, np.flip(other[1], (-2, -1)))
    turned = SliceDataset([volume], augment=AugmentConfig(rotate90=1.0))[1, 0, 0].target
    assert any(np.array_equal(turned, np.rot90(other[1], n)) for n in (1, 2, 3))
    wrong = r"^esc\.h5: its reference is not the RSS image of its k-space, so none can be made for augment\.{}[;,]"
    for name, amount in (("rotate", 5.0), ("contrast", 0.1), ("shift", 2), ("scale", 0.1)):
        with pytest.raises(InputError, match=wrong.format(name)):
            SliceDataset([volume], augment=AugmentConfig(**{name: amount, "flip": 0.5}))


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["multicoil/brain_t1_7ch.h5", "multicoil/phantom_gre_3t_2ch_oversampled.h5"])
def test_measured_references_are_made_anew_in_their_units(shared_data, name):
    """With a turn too small to see, the reference is the stored one."""
    volume = Volume(shared_data / name)
    sample = SliceDataset([volume], augment=AugmentConfig(rotate=1e-6))[0, 0, 0]
    stored = torch.from_numpy(volume.target(0))
    assert (sample.target - stored).norm() < 1e-2 * stored.norm()
    assert not torch.equal(sample.target, stored)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_amounts_out_of_range_are_refused(name):
    entry = AUGMENTATIONS[name]
    check_amounts({name: 0.5})
    too_much = [value for value in (entry.below, entry.at_most + 0.01) if value < np.inf]
    for value in (-0.5, float("nan"), *too_much):
        with pytest.raises(InputError, match=rf"^augment\.{name} is .*; it must be at least 0 \(off\)"):
            check_amounts({name: value})
    assert amounts(AugmentConfig()) == {}


def test_a_drawn_nothing_is_nothing():
    assert draw({"flip": 1e-12, "rotate90": 1e-12}, 0) == Drawn(None, (), ())
