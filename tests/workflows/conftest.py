"""A small data set and a quick configuration for whole runs."""

from dataclasses import replace

import pytest
import torch

from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, TrainConfig


@pytest.fixture(scope="session")
def small_data(tmp_path_factory, volume_writer):
    """Train, val and test folders; two matrix sizes, multi-coil."""
    root = tmp_path_factory.mktemp("small")
    for split, n in (("train", 4), ("val", 2), ("test", 2)):
        (root / split).mkdir()
        for i in range(n):
            matrix = (32, 32) if i % 2 else (40, 36)
            volume_writer(
                root / split / f"{split}{i}.h5",
                n_slices=3,
                n_coils=2,
                matrix=matrix,
                seed=hash((split == "val", n, i)) % 1000,
            )
    return root


@pytest.fixture
def quick(small_data, tmp_path):
    """Makes a configuration of a run of a few seconds in its own folder."""

    def make(name="run", **changes):
        config = TrainConfig(
            data=DataConfig(path=str(small_data)),
            model=ModelConfig(channels=4, pools=2, norm="batch", dropout=0.2, residual=False),
            optimizer=OptimizerConfig(name="adam", lr=1e-2),
            batch_size=2,
            max_steps=11,
            val_every=4,
            precision="fp32",
            threads=1,
            device="cpu",
            output=str(tmp_path / name),
        )
        return replace(config, **changes)

    return make


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
