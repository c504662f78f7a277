"""Which run is which: a hash of all that decides its result, and of the package that computes it.

And what a study means by the keys that its grid leaves out: the defaults of when it was begun.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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
    "compile": False,
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


# ---- what a study means by keys that its grid does not set: the defaults of when it was begun, whatever they are today

# A new study notes the number of today's defaults (`defaults`) in its grid; the first studies noted none.
FIRST_STUDIES, TODAY = 1, 2
_OPEN = (None, "auto")  # values that leave a key to the method


@dataclass(frozen=True)
class Defaults:
    """The defaults of a time, as far as those of today are others."""

    base: Mapping[str, Any] = field(default_factory=dict)  # of configuration keys that identify a run
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # optimizer -> what it made of open keys
    spaces: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)  # optimizer -> its ranges

    def decided(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys that a run's settings leave open and that its method decided otherwise, with their values."""
        method = self.methods.get(str(settings["optimizer.name"]), {})
        return {key: value for key, value in method.items() if settings[key] in _OPEN}


# A default that changes makes a new number: the value of before is entered here for all numbers before it.
DEFAULTS = {
    FIRST_STUDIES: Defaults(
        base={"optimizer.name": "adamw", "model.residual": False, "batch_size": 2},
        methods={"muon": {"optimizer.momentum": 0.95, "schedule.name": "onecycle"}},
        spaces={"muon": {"one_minus_beta1": (1e-2, 0.2)}},
    ),
    TODAY: Defaults(),
}
