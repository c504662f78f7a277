"""Splits: by patient, complete, reproducible."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.data.folders.folder import draw_volumes, halve_by_patient, patients, split_by_patient
from mrirecon.errors import InputError


def volumes_of(owners):
    return [SimpleNamespace(name=f"{i:03}.h5", patient=f"p{owner}") for i, owner in enumerate(owners)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=3, max_size=60), st.integers(0, 2**32))
def test_no_patient_is_on_two_sides_and_none_is_lost(owners, seed):
    volumes = volumes_of(owners)
    if len(set(owners)) < 3:
        with pytest.raises(InputError, match="patient"):
            split_by_patient(volumes, seed)
        return
    splits = split_by_patient(volumes, seed)
    assert list(splits) == ["train", "val", "test"]
    assert all(splits.values())
    assert sorted(v.name for side in splits.values() for v in side) == [v.name for v in volumes]
    sides = [set(patients(side)) for side in splits.values()]
    assert sum(len(side) for side in sides) == len(set(owners)) == len(set.union(*sides))


@pytest.mark.parametrize(
    ("n", "sizes"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2)), (20, (14, 3, 3)), (100, (70, 15, 15))]
)
def test_shares(n, sizes):
    splits = split_by_patient(volumes_of(range(n)), 0)
    assert tuple(len(side) for side in splits.values()) == sizes


def test_a_split_is_repeatable_whatever_the_order_and_differs_by_seed():
    volumes = volumes_of(range(30))
    first = split_by_patient(volumes, 1)
    shuffled = [volumes[i] for i in np.random.default_rng(0).permutation(30)]
    names = {split: {v.name for v in side} for split, side in first.items()}
    assert {split: {v.name for v in side} for split, side in split_by_patient(shuffled, 1).items()} == names
    assert {split: {v.name for v in side} for split, side in split_by_patient(volumes, 2).items()} != names


def test_the_global_random_state_is_neither_used_nor_changed():
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    first = split_by_patient(volumes_of(range(10)), 3), draw_volumes(volumes_of(range(10)), 4, 3)
    assert np.array_equal(np.random.get_state()[1], state)
    np.random.seed(9)
    again = split_by_patient(volumes_of(range(10)), 3), draw_volumes(volumes_of(range(10)), 4, 3)
    assert first == again


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=30))
def test_halves_by_patient(owners):
    volumes = volumes_of(owners)
    if len(set(owners)) < 2:
        with pytest.raises(InputError, match="one patient"):
            halve_by_patient(volumes)
        return
    tune, test = halve_by_patient(volumes)
    assert not set(patients(tune)) & set(patients(test))
    assert len(tune) + len(test) == len(volumes)
    assert 0 <= len(patients(tune)) - len(patients(test)) <= 1


def test_volumes_are_drawn_by_seed_in_order():
    volumes = volumes_of(range(20))
    drawn = [tuple(v.name for v in draw_volumes(volumes, 5, seed)) for seed in range(10)]
    assert len(set(drawn)) == 10
    assert all(list(names) == sorted(names) and len(names) == 5 for names in drawn)
    assert draw_volumes(volumes, 0, 0) == draw_volumes(volumes, 99, 0) == volumes
    with pytest.raises(InputError, match="-1 volumes"):
        draw_volumes(volumes, -1, 0)
