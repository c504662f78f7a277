"""What safe checkpoints cost: hash, read-back, syncs and the one before, against plain saving.

python scripts/benchmark_checkpoints.py [FOLDER]   (a folder on the disk to measure; half a minute)

U-Net of 32 channels and 4 pools with Adam's state. Competitors take turns; medians.
"""

import os
import sys
import tempfile
from pathlib import Path

import torch
from benchmark import interleaved
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from mrirecon.models import UNet
from mrirecon.runs import RunFolder
from mrirecon.training.checkpoints.read import load_checkpoint
from mrirecon.training.checkpoints.write import CheckpointFiles


def state() -> dict[str, object]:
    """Weights, and two tensors of Adam for each of them."""
    model = UNet(channels=32, pools=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return {"global_step": 1, "state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()]}


def save_synced(content: object, path: Path) -> None:
    """The least that survives a power cut."""
    with path.open("wb") as handle:
        torch.save(content, handle)
        handle.flush()
        os.fsync(handle.fileno())


def main(folder: Path) -> None:
    """Print seconds and ratios."""
    content, run = state(), RunFolder(folder)
    plain, lightning, ours = folder / "plain.ckpt", folder / "lightning.ckpt", run.checkpoint("last")
    saving = {
        "torch.save": lambda: torch.save(content, plain),
        "torch.save, synced": lambda: save_synced(content, folder / "synced.ckpt"),
        "Lightning's own": lambda: TorchCheckpointIO().save_checkpoint(content, str(lightning)),
        "verified, one kept": lambda: CheckpointFiles(run).save_checkpoint(content, ours),
    }
    loading = {
        "torch.load": lambda: torch.load(plain, map_location="cpu", weights_only=True),
        "with its hash": lambda: load_checkpoint(ours),
    }
    for competitors in (saving, loading):
        seconds = interleaved(competitors)
        first = next(iter(seconds.values()))
        for name, value in seconds.items():
            print(f"{name:<20}{value:8.3f} s{value / first:8.2f} x")
    print(f"checkpoint of {ours.stat().st_size / 1e6:.1f} MB in {folder}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as temporary:
        main(Path(temporary))
