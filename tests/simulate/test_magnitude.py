"""Real volumes as objects: reading, slabs, and what may change."""

from itertools import pairwise

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from mrirecon.errors import InputError
from mrirecon.simulate.head.measured_head import AXES, GUARD_MM, MagnitudeHead, cut_slabs
from mrirecon.simulate.head.nifti import load_magnitude
from mrirecon.simulate.plane import Plane, rotated

COUNTS = {"train": 6, "val": 2, "test": 2}


def _ball_values(shape=(60, 70, 66)):
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    radius = np.sqrt(((grid / np.array([26, 30, 28])[:, None, None, None]) ** 2).sum(0))
    rng = np.random.default_rng(0)
    inside = 400 + 300 * ndimage.gaussian_filter(rng.standard_normal(shape), 2) / 0.06
    return np.where(radius < 1, np.clip(inside, 150, 1000), np.abs(rng.normal(0, 4, shape))).astype(np.float32)


@pytest.fixture(scope="module")
def ball_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("nifti") / "ball.nii.gz"
    nibabel.save(nibabel.Nifti1Image(_ball_values(), np.diag([2.0, 2.0, 2.5, 1.0])), path)
    return str(path)


@pytest.fixture(scope="module")
def ball(ball_file):
    return load_magnitude(ball_file)


def test_the_background_is_silent_and_the_object_whole(ball):
    assert ball.values[:1].max() == ball.values[:, :1].max() == 0  # noise filled these planes
    assert ball.cover[30, 35, 33] == 1
    assert ball.cover.mean() == pytest.approx(4 / 3 * np.pi * 26 * 30 * 28 / (60 * 70 * 66), rel=0.05)
    np.testing.assert_allclose(ball.voxel_mm, [2, 2, 2.5])


def test_every_slab_knows_where_its_object_is(ball):
    """Found once for each slab, not again for each slab's copy or slice."""
    for source in (ball, *cut_slabs(ball, "coronal", COUNTS, 6).values()):
        voxels = np.argwhere(source.cover > 0.5)
        np.testing.assert_array_equal(source.object_voxels, [voxels.min(axis=0), voxels.max(axis=0)])
        np.testing.assert_array_equal(source.object_mm, np.ptp(voxels, axis=0) * source.voxel_mm)
        assert source.object_voxels is source.object_voxels


def test_axes_are_turned_to_the_patient(tmp_path, ball):
    """The same object stored with other axes and directions is the same object."""
    turned = _ball_values().transpose(2, 0, 1)[::-1]
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = -2.5, 2.0, 2.0, 1.0
    nibabel.save(nibabel.Nifti1Image(turned, affine), tmp_path / "turned.nii")
    np.testing.assert_array_equal(load_magnitude(str(tmp_path / "turned.nii")).values, ball.values)


def test_a_frame_of_a_series_is_chosen_never_guessed(tmp_path, ball):
    values = np.stack([np.ones((60, 70, 66)), _ball_values()], axis=-1).astype(np.float32)
    path = str(tmp_path / "two.nii")
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.5, 1.0])), path)
    np.testing.assert_array_equal(load_magnitude(path, 1).values, ball.values)
    with pytest.raises(
        InputError, match=r"shape \(60, 70, 66, 2\), a series of 2 volumes; choose one: --frame 0 to --frame 1"
    ):
        load_magnitude(path)
    for frame in (-1, 2):
        with pytest.raises(InputError, match=rf"--frame {frame} of .*; give --frame 0 to --frame 1$"):
            load_magnitude(path, frame)


@pytest.mark.parametrize("more", [(1,), (1, 1), (1, 1, 1)])
def test_axes_of_length_1_make_no_series(tmp_path, ball, more):
    path = str(tmp_path / "one.nii")
    nibabel.save(nibabel.Nifti1Image(_ball_values().reshape(60, 70, 66, *more), np.diag([2.0, 2.0, 2.5, 1.0])), path)
    for frame in (None, 0):
        np.testing.assert_array_equal(load_magnitude(path, frame).values, ball.values)
    with pytest.raises(InputError, match="--frame 1 of .*; leave it out"):
        load_magnitude(path, 1)


def _colours():
    values = np.zeros((20, 20, 20), [(name, "u1") for name in "RGB"])
    values["R"] = 9
    return values


def test_oddities_are_noted(tmp_path, ball):
    assert ball.notes == ()
    labels = np.digitize(_ball_values(), [100, 400, 600]).astype(np.uint8)
    for name, values, says in (("labels", labels, "only 4 different"), ("hu", _ball_values() - 400, "are negative")):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.5, 1.0])), tmp_path / f"{name}.nii")
        (note,) = load_magnitude(str(tmp_path / f"{name}.nii")).notes
        assert says in note


def test_voxels_without_a_size(tmp_path):
    image = nibabel.Nifti1Image(_ball_values(), np.eye(4))
    nibabel.save(image, tmp_path / "v.nii")
    content = bytearray((tmp_path / "v.nii").read_bytes())
    content[80:92] = np.array([2, np.nan, 2], "<f4").tobytes()  # pixdim[1] to pixdim[3] of the format
    (tmp_path / "v.nii").write_bytes(content)
    with pytest.raises(InputError, match="has voxels of 2 x nan x 2 mm; --from needs"):
        load_magnitude(str(tmp_path / "v.nii"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a file"),
        (b"no nifti at all", "cannot be read as NIfTI"),
        (b"", "cannot be read as NIfTI"),
        (np.zeros((20, 20, 20), np.float32), "no positive values"),
        (np.full((20, 20, 20), np.nan, np.float32), "NaN or infinity in 8000 of 8000 voxels"),
        (np.ones((20, 20), np.float32), r"shape \(20, 20\); --from takes one volume \(x, y, z\)"),
        (np.ones((20, 20, 20, 2, 3), np.float32), r"shape \(20, 20, 20, 2, 3\); --from takes one volume"),
        (np.ones((20, 20, 4), np.float32), "at least 8 voxels on each axis"),
        (np.ones((20, 20, 20), np.complex64), "holds complex64 values; --from needs magnitudes"),
        (_colours(), "holds colours; --from needs magnitudes"),
    ],
)
def test_what_is_no_magnitude_volume_is_refused(tmp_path, content, message):
    path = tmp_path / "wrong.nii"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        nibabel.save(nibabel.Nifti1Image(content, np.eye(4)), path)
    with pytest.raises(InputError, match=message) as caught:
        load_magnitude(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("orientation", AXES)
def test_slabs_are_disjoint_with_a_gap(ball, orientation):
    slabs = cut_slabs(ball, orientation, COUNTS, 3)
    axis = AXES[orientation]
    ranges = sorted(slab.slice_range_mm for slab in slabs.values())
    for (_, end), (start, _) in pairwise(ranges):
        assert start - end > GUARD_MM
    for slab in slabs.values():
        first = round((slab.start_mm[axis] - ball.start_mm[axis]) / ball.voxel_mm[axis])
        part = np.take(ball.values, np.arange(first, first + slab.values.shape[axis]), axis=axis)
        np.testing.assert_array_equal(slab.values, part)
        assert not np.shares_memory(slab.values, ball.values)


def test_more_volumes_get_a_thicker_slab_and_empty_splits_none(ball):
    slabs = cut_slabs(ball, "axial", {"train": 8, "val": 2, "test": 0}, 3)
    assert set(slabs) == {"train", "val"}
    assert slabs["train"].values.shape[2] > 2 * slabs["val"].values.shape[2]


def test_an_object_too_short_for_its_slabs_is_refused(ball):
    with pytest.raises(InputError, match="do not fit into the"):
        cut_slabs(ball, "axial", COUNTS, 40)


def _planes(slab, orientation):
    low, high = slab.slice_range_mm
    normal = np.eye(3)[slab.axis]
    return [Plane.centered(z * normal, *rotated(orientation, 0.3), 2.0, (90, 90)) for z in np.linspace(low, high, 5)]


@pytest.mark.parametrize("orientation", AXES)
def test_nothing_of_another_slab_is_ever_read(ball, orientation, rng):
    """Change everything outside a slab: pictures of the slab stay the same, bit for bit."""
    slab = cut_slabs(ball, orientation, COUNTS, 3)["val"]
    axis, changed = slab.axis, ball.values + 1
    first = round((slab.start_mm[axis] - ball.start_mm[axis]) / ball.voxel_mm[axis])
    inside = [slice(None)] * 3
    inside[axis] = slice(first, first + slab.values.shape[axis])
    changed[tuple(inside)] = ball.values[tuple(inside)]
    other = cut_slabs(type(ball)(changed, ball.cover, ball.voxel_mm, ball.start_mm, "other"), orientation, COUNTS, 3)
    heads = [MagnitudeHead.random(np.random.default_rng(5), s) for s in (slab, other["val"])]
    for plane in _planes(slab, orientation):
        one, two = (head.render(plane, 6.0) for head in heads)
        np.testing.assert_array_equal(one.water, two.water)
        assert one.cover.max() == pytest.approx(1)


def test_heads_of_one_volume_share_the_patient_and_differ_in_contrast(ball):
    slab = cut_slabs(ball, "axial", COUNTS, 3)["train"]
    heads = [MagnitudeHead.random(np.random.default_rng(seed), slab) for seed in range(6)]
    assert {head.patient_id for head in heads} == {ball.patient_id}
    plane = _planes(slab, "axial")[2]
    pictures = [head.render(plane, 3.0).water for head in heads]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other).max() > 0.05
    assert all(head.size[slab.axis] == 1 and head.flip[slab.axis] == 1 for head in heads)
    assert all(head.curve[1][0] == 0 for head in heads)  # air stays black
