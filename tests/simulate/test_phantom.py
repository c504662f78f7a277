"""Heads: anatomy in its place, one object in space, different from seed to seed."""

import numpy as np
import pytest
from skimage.measure import label, perimeter
from skimage.morphology import convex_hull_image

from mrirecon.errors import InputError
from mrirecon.simulate.head.contrast import CONTRASTS, TISSUES, random_contrast
from mrirecon.simulate.head.phantom import Phantom
from mrirecon.simulate.plane import Plane, rotated


def _render(phantom, center, orientation="axial", shape=(220, 190), spacing=1.2, thickness=3.0):
    return phantom.render(
        Plane.centered(np.array(center, dtype=float), *rotated(orientation), spacing, shape), thickness
    )


def _phantom(seed=0, **options):
    return Phantom.random(np.random.default_rng(seed), **options)


def test_air_surrounds_the_head_and_signal_fills_it():
    picture = _render(_phantom(), (0, -5, 20))
    assert picture.cover[:4].max() == picture.water[:4].max() == picture.fat[:, :4].max() == 0
    assert picture.cover[110, 95] == 1
    assert 0.3 < picture.cover.mean() < 0.8
    assert ((picture.cover >= 0) & (picture.cover <= 1)).all()


def test_the_layers_of_a_t1_head_come_in_order():
    phantom = _phantom(3, contrast="T1", texture=False)
    picture = _render(phantom, (0, -5, 25), thickness=0.5)
    middle = (picture.water + picture.fat)[110]
    first = np.argmax(picture.cover[110] > 0.5)
    scalp = middle[first : first + 8].max()
    skull = middle[first + 3 : first + 22].min()
    brain = np.median(middle[first + 30 : first + 50])
    assert scalp > 1.2 * brain > 2.5 * skull


def test_slices_cut_one_object():
    phantom = _phantom(5, texture=False)
    axial = _render(phantom, (0, -10, 20), "axial", (201, 201), 1.0, 0.01)
    coronal = _render(phantom, (0, -10, 20), "coronal", (201, 201), 1.0, 0.01)
    difference = np.abs(axial.water[100] - coronal.water[100])
    assert np.median(axial.water[100]) > 0.1
    assert difference.mean() < 0.02
    assert difference.max() < 0.15


def test_edges_are_partial_volume_not_steps():
    cover = _render(_phantom(), (0, -5, 20), spacing=1.2).cover
    share = ((cover > 0.05) & (cover < 0.95)).mean()
    assert 0.005 < share < 0.1


def test_heads_differ_in_anatomy_size_and_contrast():
    heads = [_phantom(seed) for seed in range(8)]
    pictures = [_render(head, (0, -5, 20)) for head in heads]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one.cover - other.cover).mean() > 0.003
            a, b = one.water + one.fat, other.water + other.fat
            assert np.corrcoef(a.ravel(), b.ravel())[0, 1] < 0.97
    assert len({head.contrast.name for head in heads}) >= 3
    sizes = np.array([np.ptp(head.box, axis=0) for head in heads])
    assert (sizes.std(axis=0) / sizes.mean(axis=0) > 0.01).all()


def test_the_same_seed_gives_the_same_head():
    one, other = (_render(_phantom(11), (0, 0, 10)) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_texture_is_inside_the_tissues_and_can_be_left_out():
    with_texture = _render(_phantom(2, texture=True), (0, -20, 30)).water[100:120, 60:75]
    without = _render(_phantom(2, texture=False), (0, -20, 30)).water[100:120, 60:75]
    assert np.abs(with_texture / without - 1).std() > 0.005


def test_the_cortex_is_folded():
    """The white matter's boundary is much longer than that of its convex hull (a smooth one: 1; Colin 27: 2 to 4)."""
    ratios = []
    for seed in range(6, 15):
        picture = _render(_phantom(seed, contrast="T2", texture=False), (0, -10, 20), thickness=0.5)
        parts = label(np.abs(picture.water - 1) < 0.12)
        largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
        ratios.append(perimeter(largest) / perimeter(convex_hull_image(largest)))
    assert min(ratios) > 1.1
    assert np.median(ratios) > 1.6


@pytest.mark.parametrize("orientation", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_every_slice_of_the_range_shows_the_head_inside_its_reach(orientation, share):
    phantom = _phantom(13)
    low, high = phantom.slice_range_mm(orientation)
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[orientation]
    center = (phantom.box[0] + phantom.box[1]) / 2
    center[axis] = low + share * (high - low)
    plane = Plane.centered(center, *rotated(orientation), 3.0, (140, 140))
    picture = phantom.render(plane, 3.0)
    assert picture.cover.mean() > 0.05
    rows, columns = plane.window(*phantom.reach)
    outside = picture.cover.copy()
    outside[rows, columns] = 0
    assert (outside * np.abs(picture.water + picture.fat)).max() < 0.02


@pytest.mark.parametrize("name", CONTRASTS)
def test_contrasts_order_the_tissues_as_on_real_images(name):
    for seed in range(12):
        contrast = random_contrast(np.random.default_rng(seed), name)
        water, fat = contrast.water, contrast.fat
        assert set(water) == set(fat) == set(TISSUES)
        assert water["white"] == pytest.approx(1)
        assert water["bone"] + fat["bone"] < 0.4
        order = {
            "T1": water["white"] > water["grey"] > water["csf"],
            "T2": water["csf"] > water["grey"] > water["white"],
            "PD": water["grey"] > water["white"],
            "FLAIR": water["grey"] > water["white"] > water["csf"],
            "GRE": True,  # from T1 to density weighted
        }
        assert order[name], (seed, water)


def test_an_unknown_contrast_is_refused(rng):
    with pytest.raises(InputError, match="did you mean 'FLAIR'"):
        random_contrast(rng, "FLAR")
