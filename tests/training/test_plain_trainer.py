"""The Lightning module and data module work with anybody's plain Trainer."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from fastmri import evaluate

from mrirecon.config import DataConfig, OptimizerConfig
from mrirecon.data import ReconDataModule
from mrirecon.models import UNet
from mrirecon.training import ReconModule


@pytest.fixture
def folder(tmp_path, volume_writer):
    for split, n in (("train", 2), ("val", 2)):
        (tmp_path / split).mkdir()
        for i in range(n):
            volume_writer(tmp_path / split / f"{split}{i}.h5", matrix=(32, 32), seed=i)
    return tmp_path


def plain_trainer(folder, **options):
    return pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(folder),
        **options,
    )


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and logging
def test_fit_logs_the_scores_of_whole_volumes(folder):
    data = ReconDataModule(DataConfig(path=str(folder)), batch_size=2)
    module = ReconModule(UNet(channels=4, pools=2), OptimizerConfig("adam", 1e-3), n_steps=6)
    trainer = plain_trainer(folder)
    trainer.fit(module, data)
    assert trainer.global_step == 2 * data.stream.batches_per_epoch
    expected = fastmri_scores(module.eval(), data)
    for name, value in expected.items():
        assert trainer.callback_metrics[f"val_{name}"].item() == pytest.approx(value, rel=1e-5)


def fastmri_scores(module, data):
    """Means over volumes by fastMRI's own functions on whole volumes."""
    volumes = {}
    with torch.no_grad():
        for batch in data.val_dataloader()[0]:
            for name, target, image in zip(batch.volume, batch.target, module(batch), strict=True):
                volumes.setdefault(name, []).append((target.numpy(), image.numpy()))
    stacks = [[np.stack(part) for part in zip(*slices, strict=True)] for slices in volumes.values()]
    return {
        "ssim": np.mean([evaluate.ssim(*stack) for stack in stacks]),
        "psnr": np.mean([evaluate.psnr(*stack) for stack in stacks]),
        "nmse": np.mean([evaluate.nmse(*stack) for stack in stacks]),
    }


def test_loss_is_on_normalised_clamped_values_and_images_are_not(folder):
    """Scaling input and target together changes no loss and scales the reconstruction (fastMRI trap 2)."""
    data = ReconDataModule(DataConfig(path=str(folder)), batch_size=2)
    batch = next(iter(data.val_dataloader()[0]))
    module = ReconModule(UNet(channels=4, pools=2)).eval()
    scaled = batch._replace(
        image=batch.image * 1e-6, target=batch.target * 1e-6, mean=batch.mean * 1e-6, std=batch.std * 1e-6
    )
    with torch.no_grad():
        torch.testing.assert_close(module.sample_loss(scaled), module.sample_loss(batch), rtol=1e-5, atol=0)
        torch.testing.assert_close(module(scaled) * 1e6, module(batch), rtol=1e-4, atol=1e-4)
        bright = batch._replace(target=batch.target.clone().index_fill_(1, torch.tensor([3]), 1e6))
        assert module.sample_loss(bright) < 12  # 6 standard deviations at most, on both sides


def test_the_global_generator_is_reseeded_for_each_batch():
    """Dropout of batch k depends on (seed, k), not on what ran before."""
    module = ReconModule(UNet(channels=4, pools=2), seed=3)
    draws = []
    for noise in (0, 5):
        torch.rand(noise)
        module.on_train_batch_start(None, 7)
        draws.append(torch.rand(3))
    assert torch.equal(*draws)
    module.on_train_batch_start(None, 8)
    assert not torch.equal(draws[0], torch.rand(3))


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and logging
def test_dropout_differs_between_the_epochs_of_a_plain_trainer(folder):
    seeds = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, *_):
            seeds.append(torch.initial_seed())

    module = ReconModule(UNet(channels=4, pools=2, dropout=0.5), OptimizerConfig("adam", 1e-3), n_steps=6)
    data = ReconDataModule(DataConfig(path=str(folder)), batch_size=2)
    plain_trainer(folder, callbacks=[Watch()]).fit(module, data)
    assert len(seeds) == len(set(seeds)) == 2 * data.stream.batches_per_epoch
