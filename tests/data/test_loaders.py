"""How slices are handed out to processes."""

import pytest
import torch

from mrirecon.data.loading.loaders import UnitLoader


class Numbers(torch.utils.data.Dataset):
    def __getitem__(self, index):
        return index[0] if isinstance(index, tuple) else index


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 9])
def test_units_are_shared_once_and_in_order(world_size):
    units = [[0, 1], [2], [3, 4, 5], [6], [7]]
    loaders = [UnitLoader(Numbers(), units, 0, [2, 1, 3, 1, 1], r, world_size) for r in range(world_size)]
    assert all(len(loader) == len(list(loader)) > 0 for loader in loaders)
    assert {loader.n_rounds for loader in loaders} == {max(len(loader) for loader in loaders)}
    handed_out = [unit.tolist() for loader in loaders for unit in loader]
    unique = [unit for k, unit in enumerate(handed_out) if unit not in handed_out[:k]]
    assert sorted(unique) == units
    if world_size <= 2:
        assert handed_out == units


def test_a_process_without_units_repeats_one():
    assert [unit.tolist() for unit in UnitLoader(Numbers(), [[4, 5]], 0, [1], 2, 3)] == [[4, 5]]
