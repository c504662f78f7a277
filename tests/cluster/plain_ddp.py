"""A script with a plain Trainer of two processes, started by Lightning itself; rank 0 writes what came out."""

import json
import logging
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch

from mrirecon.config import DataConfig, OptimizerConfig, ScheduleConfig
from mrirecon.data import ReconDataModule
from mrirecon.models import UNet
from mrirecon.training import ReconModule


def fit(folder, devices, **trainer):
    """Train two epochs with batches of 4 slices; scores and weights at the end."""
    torch.manual_seed(0)
    data = ReconDataModule(DataConfig(path=str(folder)), batch_size=4 // devices)
    model = UNet(channels=4, pools=2, norm="group", affine=True)
    # a smooth loss: the sign in the gradient of l1 turns rounding into differences that grow with the steps
    module = ReconModule(model, OptimizerConfig("sgd", 0.1), ScheduleConfig("constant"), loss="mse")
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=devices,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        **trainer,
    )
    trainer.fit(module, data)
    scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return scores, torch.cat([p.detach().flatten() for p in module.parameters()]), trainer


if __name__ == "__main__":
    logging.disable()
    warnings.simplefilter("ignore")
    scores, weights, trainer = fit(Path(sys.argv[1]), 2, strategy="ddp")
    if trainer.is_global_zero:
        Path(sys.argv[2]).write_text(json.dumps([scores, weights.tolist(), trainer.global_step]))
