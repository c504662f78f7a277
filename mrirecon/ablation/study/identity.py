"""Which run is which: a hash of all that decides its result, and of the package that computes it."""

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import mrirecon
from mrirecon.config.slurm import JobConfig
from mrirecon.tables.augmentations import AUGMENTATIONS

# Each configuration key stands in one of three tables (tested). Here: where things are and how a run reports, nothing
# that decides its numbers.
LEFT_OUT = (
    *("data.path", "data.workers", "data.stage", "data.check", "data.check_reference"),
    *("device", "logger", "output", "overwrite", "checkpoints"),
    *("devices", "num_nodes", "sync_batchnorm"),  # always one process
    *(f"slurm.{field.name}" for field in fields(JobConfig)),
)
# The keys that the first studies knew; they decide, whatever their value. This list is closed.
FIRST = (
    *("data.mask", "data.acceleration", "data.center_fraction", "data.acquisition", "data.volumes", "data.slices"),
    *("data.coils", "data.split_seed", "data.fixed_masks"),
    *("model.name", "model.input", "model.normalize", "model.channels", "model.pools", "model.norm", "model.affine"),
    *("model.channels_per_group", "model.n_groups", "model.norm_position", "model.residual", "model.dropout"),
    *("optimizer.name", "optimizer.lr", "optimizer.momentum", "optimizer.betas", "optimizer.alpha", "optimizer.eps"),
    *("optimizer.weight_decay", "schedule.name", "schedule.warmup", "schedule.step_at", "schedule.factor"),
    *("schedule.final", "schedule.power", "schedule.decay", "schedule.patience"),
    *("average.name", "average.decay", "average.start", "average.bn_batches"),
    *("loss", "l1_weight", "batch_size", "accumulate", "max_steps", "max_epochs", "clip", "precision"),
    *("val_every", "val_volumes", "checkpoint_every", "early_stop", "protocol", "seed", "threads"),
)
# The keys that came after: the value at which a run is the one that it was before there was the key. A key decides at
# any other value; at this one it stays out, so that the studies of before keep their runs.
YOUNG: dict[str, Any] = {
    **{"weights": "", "freeze": [], "monitor": "ssim"},
    **{"model.cascades": 8, "model.sens_channels": 8, "model.sens_pools": 0, "model.checkpointing": False},
    **{f"augment.{name}": 0 for name in AUGMENTATIONS},
}


def run_id(settings: Mapping[str, Any], stage: str, data: str) -> str:
    """16 hex digits.

    Args:
        settings: All dotted configuration keys of the run, seed, threads, precision and protocol among them.
        stage: Of the study; reruns are scored on test volumes, the others are not.
        data: Hash of the data manifest.
    """
    text = json.dumps([stage, data, _deciding(settings)], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def scale_id(settings: Mapping[str, Any], data: str) -> str:
    """Like `run_id`, of what decides the scores of zero-filled images."""
    decides = {key: value for key, value in _deciding(settings).items() if key.startswith("data.")}
    decides |= {key: settings[key] for key in ("protocol", "val_volumes")}
    return sha256(json.dumps([data, decides], sort_keys=True).encode()).hexdigest()[:16]


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    decides = {key: value for key, value in settings.items() if key not in LEFT_OUT}
    return {key: value for key, value in decides.items() if key not in YOUNG or value != YOUNG[key]}


@cache
def code_hash() -> str:
    """12 hex digits over the package's `.py` files, by name and content."""
    folder = Path(mrirecon.__file__).parent
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]
