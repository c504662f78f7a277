"""Masks: fastMRI's own, reproducible, with their true acceleration."""

import hashlib

import numpy as np
import pytest
import torch
from fastmri.data import subsample
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from mrirecon.errors import InputError
from mrirecon.physics import MASKS, default_center_fraction, draw_mask, make_mask
from mrirecon.tables.masks import MaskEntry

SEED = tuple(map(ord, "file1000000.h5"))
SETTINGS = [(0.08, 4), (0.04, 8), ([0.08, 0.04], [4, 8])]
GOLDEN = {  # sha256 of the 368 bytes, and lines sampled; drawn by fastMRI 0.3.0
    "random": [("c814b1134c27", 88), ("cb9280885f79", 46), ("4051007fa71e", 45)],
    "equispaced": [("621c60306e8d", 114), ("b6b78bfa8000", 59), ("4a7d8979e1a3", 59)],
    "equispaced_fraction": [("2dbf84cf0f4a", 93), ("e4fcd5fd41ed", 45), ("3e48040784e3", 46)],
    "magic": [("9522ccd1e876", 114), ("5b96b3cf8704", 59), ("c970f25d26e9", 59)],
    "magic_fraction": [("be97d9add942", 86), ("17cc8438a736", 45), ("5db836c5eeb6", 45)],
}
RULES = {"gaussian"}  # tests of masks that are not fastMRI's, by name
CASES = [(name, *setting, *golden) for name in GOLDEN for setting, golden in zip(SETTINGS, GOLDEN[name], strict=True)]


@pytest.mark.parametrize(("name", "fraction", "acceleration", "digest", "lines"), CASES)
def test_golden_masks(name, fraction, acceleration, digest, lines):
    mask = make_mask(name, 368, fraction, acceleration, SEED)
    columns = mask.columns.numpy().astype(np.uint8)
    assert hashlib.sha256(columns.tobytes()).hexdigest()[:12] == digest
    assert columns.sum() == lines
    assert mask.acceleration_true == 368 / lines


def test_every_mask_has_golden_values_or_a_rule_of_its_own():
    assert set(MASKS) == set(GOLDEN) | set(RULES)


@pytest.mark.parametrize("name", GOLDEN)
def test_equals_fastmri_at_other_widths_and_seeds(name):
    for width, seed in [(320, 3), (213, 17), (64, (1, 2, 3)), (372, 2**32 - 1)]:
        function = subsample.create_mask_for_mask_type(name, [0.08, 0.04], [4, 8])
        expected, n_center = function((1, width, 2), None, seed)
        mask = make_mask(name, width, [0.08, 0.04], [4, 8], seed)
        assert torch.equal(mask.columns, expected.flatten() > 0)
        assert mask.n_center == n_center
        assert n_center == round(width * mask.center_fraction)  # the pair that is reported was drawn
        assert (mask.center_fraction, mask.acceleration) in [(0.08, 4), (0.04, 8)]


@pytest.mark.parametrize("name", MASKS)
def test_the_global_random_state_is_untouched(name):
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    make_mask(name, 368, 0.08, 4, SEED)
    assert np.array_equal(np.random.random(3), expected)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", MASKS)
@settings(max_examples=20, deadline=None)
@given(st.integers(48, 400), st.sampled_from([2, 3, 4, 6, 8]), st.integers(0, 2**32 - 1))
def test_the_centre_is_fully_sampled(name, width, acceleration, seed):
    mask = make_mask(name, width, default_center_fraction(acceleration), acceleration, seed)
    start = (width - mask.n_center + 1) // 2
    assert mask.columns[start : start + mask.n_center].all()
    assert mask.columns.dtype == torch.bool
    assert mask.columns.shape == (width,)


def test_true_acceleration_leaves_padding_out():
    acquired = slice(20, 300)
    mask = make_mask("equispaced", 320, 0.08, 4, SEED, acquired=acquired)
    kept = int(mask.columns[20:300].sum())
    assert mask.acceleration_true == 280 / kept
    assert mask.acceleration_true != make_mask("equispaced", 320, 0.08, 4, SEED).acceleration_true


def test_random_masks_reach_the_nominal_acceleration_on_average():
    lines = [int(make_mask("random", 368, 0.08, 4, seed).columns.sum()) for seed in range(300)]
    assert np.mean(lines) == pytest.approx(368 / 4, abs=3 * np.std(lines) / 300**0.5)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(("fraction", "acceleration"), [(0.25, 4), (0.37, 4), (0.5, 2), (1.0, 1), (0.13, 8)])
def test_a_centre_that_uses_all_columns_is_refused(name, fraction, acceleration):
    with pytest.raises(InputError, match="leaves nothing to undersample"):
        make_mask(name, 368, fraction, acceleration, SEED)


@pytest.mark.parametrize(
    ("fraction", "acceleration"), [(0.08, 0.5), (0.0, 4), (-0.1, 4), (float("nan"), 4), (0.08, float("nan"))]
)
def test_impossible_values_are_refused(fraction, acceleration):
    with pytest.raises(InputError, match="at least 1"):
        make_mask("random", 368, fraction, acceleration, SEED)


def test_lists_must_be_paired():
    with pytest.raises(InputError, match="1 center fractions for 2 accelerations"):
        make_mask("random", 368, [0.08], [4, 8], SEED)


@pytest.mark.parametrize(("width", "fraction", "acceleration"), [(368, 0.08, 4), (320, 0.04, 8), (65, 0.1, 3.5)])
def test_gaussian_keeps_an_exact_number_of_columns_denser_towards_the_centre(width, fraction, acceleration):
    masks = [make_mask("gaussian", width, fraction, acceleration, seed) for seed in range(2000)]
    assert {int(mask.columns.sum()) for mask in masks} == {round(width / acceleration)}
    assert all(mask.acceleration_true == width / round(width / acceleration) for mask in masks)
    assert len({tuple(mask.columns.tolist()) for mask in masks}) > 1900
    rate = torch.stack([mask.columns for mask in masks]).double().mean(0).numpy()
    # Independent source: without replacement, columns come in the order of exponential clocks of their densities
    # (Efraimidis & Spirakis 2006), so column k is among the first n with probability 1 - exp(-t density_k), t such
    # that these add up to n; exact for many columns.
    outside = rate < 1
    assert (~outside).sum() == round(width * fraction) == masks[0].n_center
    position = (np.arange(width) - width // 2)[outside]
    density = np.exp(-18 * (position / width) ** 2)  # a standard deviation of width / 6
    n = round(width / acceleration) - masks[0].n_center
    t = brentq(lambda t: (1 - np.exp(-t * density)).sum() - n, 0, 1e3)
    expected = 1 - np.exp(-t * density)
    noise = np.sqrt(expected * (1 - expected) / len(masks))
    assert np.abs(rate[outside] - expected).max() < 5 * noise.max() + 0.01


def rows_by_chance(shape, center_fraction, acceleration, generator):
    kept = generator.random_sample(shape) < 1 / acceleration
    kept[shape[0] // 2, shape[1] // 2] = True
    return kept


def test_a_mask_of_two_dimensions_is_drawn_and_refused_where_columns_are_needed(monkeypatch):
    monkeypatch.setitem(MASKS, "toy", MaskEntry("points by chance", rows_by_chance, n_dims=2))
    kept = draw_mask("toy", (64, 48), 0.08, 4, SEED)
    assert (kept.dtype, kept.shape) == (torch.bool, (64, 48))
    assert torch.equal(kept, draw_mask("toy", (64, 48), 0.08, 4, SEED))
    assert not torch.equal(kept, draw_mask("toy", (64, 48), 0.08, 4, 1))
    with pytest.raises(InputError, match="toy is two-dimensional.*whole columns here, use random, "):
        make_mask("toy", 48, 0.08, 4, SEED)
    with pytest.raises(InputError, match=r"toy has 2 dimensions, got the shape \(48,\)"):
        draw_mask("toy", (48,), 0.08, 4, SEED)


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_columns_is_the_same_by_either_way(name):
    seed = 3  # drawing one of one (fraction, acceleration) pair takes nothing from the generator
    assert torch.equal(draw_mask(name, (368,), 0.08, 4, seed), make_mask(name, 368, 0.08, 4, seed).columns)


def test_what_a_mask_function_gives_is_checked(monkeypatch):
    monkeypatch.setitem(MASKS, "toy", MaskEntry("floats", lambda shape, *_: np.ones(shape)))
    with pytest.raises(InputError, match=r"mask toy gave float64 \(48,\); bool \(48,\) was asked for"):
        make_mask("toy", 48, 0.08, 4, SEED)


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(InputError, match="unknown mask 'randon'; did you mean 'random'"):
        make_mask("randon", 368, 0.08, 4, SEED)


def test_conventional_center_fractions():
    assert default_center_fraction(4) == 0.08
    assert default_center_fraction(8) == 0.04


def test_a_centre_of_no_column_is_refused():
    with pytest.raises(InputError, match="less than one column"):
        make_mask("random", 10, 0.04, 8, SEED)


@pytest.mark.parametrize("name", ["equispaced", "magic"])
def test_regular_masks_need_a_whole_acceleration(name):
    with pytest.raises(InputError, match="whole numbers"):
        make_mask(name, 368, 0.08, 4.5, SEED)


def test_a_mask_that_fastmri_cannot_draw_is_an_input_error():
    with pytest.raises(InputError, match="magic_fraction does not fit"):
        make_mask("magic_fraction", 36, 0.1, 8, 0)


def test_numpy_integers_are_seeds():
    seed = np.random.default_rng(0).integers(2**32)
    assert torch.equal(
        make_mask("random", 64, 0.08, 4, seed).columns, make_mask("random", 64, 0.08, 4, int(seed)).columns
    )
