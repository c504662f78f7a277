"""`data.split_seed`: paired seeds share splits and volumes, while masks and order follow the seed of each run."""

import json
from dataclasses import replace

import pytest
import torch

from mrirecon.cli import main
from mrirecon.config import DataConfig, EvaluateConfig, TrainConfig
from mrirecon.data.folders.folder import open_split
from mrirecon.data.loading.datamodule import ReconDataModule
from mrirecon.errors import InputError
from mrirecon.evaluation.results import read_results
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.export.export_run import training_volumes


@pytest.fixture(scope="module")
def flat(tmp_path_factory, volume_writer):
    """Twelve patients in one folder."""
    root = tmp_path_factory.mktemp("flat")
    for i in range(12):
        volume_writer(root / f"v{i:02}.h5", n_slices=2, n_coils=2, matrix=(16, 16), seed=i)
    return root


def names(flat, split, seed, **config):
    return [volume.name for volume in open_split(DataConfig(path=str(flat), **config), split, seed)]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("n", [0, 1])
def test_it_draws_what_a_run_of_that_seed_draws(flat, split, n):
    expected = names(flat, split, 7, volumes=n)
    assert [names(flat, split, seed, volumes=n, split_seed=7) for seed in (0, 1, 7)] == [expected] * 3


def test_without_it_the_seed_of_the_run_decides(flat):
    assert len({tuple(names(flat, "train", seed)) for seed in range(4)}) > 1
    assert names(flat, "train", 3) == names(flat, "train", 9, split_seed=3)


def module(flat, seed, split_seed):
    config = DataConfig(path=str(flat), volumes=4, split_seed=split_seed)
    return ReconDataModule(config, batch_size=2, val_volumes=1, seed=seed)


def batches(data):
    return [(batch.volume, batch.slice_idx.tolist(), batch.mask_id) for batch in data.train_dataloader()]


def test_runs_share_volumes_and_differ_in_order_and_masks(flat):
    first, second = module(flat, 0, 5), module(flat, 1, 5)
    assert first.assignment == second.assignment == module(flat, 5, -1).assignment
    for kind in ("train_volumes", "val_volumes"):
        assert [v.name for v in getattr(first, kind)] == [v.name for v in getattr(second, kind)]
    assert batches(first) == batches(module(flat, 0, 5))
    assert batches(first) != batches(second)


def test_order_and_masks_are_those_of_the_seed_alone(flat):
    """On the same volumes, a run of seed 5 with its own splits and one with split seed 5 see the same batches."""
    for one, other in zip(module(flat, 5, -1).train_dataloader(), module(flat, 5, 5).train_dataloader(), strict=True):
        assert torch.equal(one.image, other.image)


def test_an_exported_run_is_checked_on_its_own_volumes(flat):
    config = TrainConfig(data=DataConfig(path=str(flat), split_seed=5), seed=1)
    train, val = training_volumes(config)
    assert [v.name for v in train] == names(flat, "train", 5)
    assert [v.name for v in val] == names(flat, "val", 5)


def scored(folders):
    return {row.volume for row in read_results(folders[0] / "volumes.csv")}


def test_evaluate_splits_by_it_and_draws_masks_by_its_own_seed(flat, tmp_path):
    data = DataConfig(path=str(flat), split_seed=5)
    config = EvaluateConfig(data=data, split="test", seed=1, output=str(tmp_path / "out"), device="cpu")
    assert scored(evaluate(config, "zero-filled")) == set(names(flat, "test", 5))
    own = replace(config, data=DataConfig(path=str(flat)), output=str(tmp_path / "own"))
    assert scored(evaluate(own, "zero-filled")) == set(names(flat, "test", 1))


def test_evaluate_of_a_run_tests_none_of_its_training_volumes(flat, tmp_path):
    words = ["train", "--data", str(flat), "--seed", "1", "--data.split-seed", "5", "--channels", "2", "--pools", "1"]
    run = tmp_path / "run"
    assert main([*words, "--max-steps", "1", "--output", str(run), "--quiet", "--precision", "fp32"]) == 0
    assert main(["evaluate", str(run), "--split", "test", "--output", str(tmp_path / "out"), "--quiet"]) == 0
    split = json.loads((run / "split.json").read_text())
    assert scored([tmp_path / "out"]) == set(split["test"]) == set(names(flat, "test", 5))


def test_a_wrong_seed_is_refused(flat):
    with pytest.raises(InputError, match="split_seed is -2; give 0 or more, or -1"):
        names(flat, "train", 0, split_seed=-2)
