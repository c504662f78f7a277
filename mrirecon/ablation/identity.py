"""Which run is which: a hash of all that decides its result, and of the package that computes it. No torch here."""

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import mrirecon
from mrirecon.config.slurm import JobConfig

# where things are and how a run reports: nothing that decides its numbers
_LEFT_OUT = (
    *("data.path", "data.workers", "data.stage", "data.check", "data.check_reference"),
    *("device", "logger", "output", "overwrite", "checkpoints"),
    *("devices", "num_nodes", "sync_batchnorm"),  # always one process
    *(f"slurm.{field.name}" for field in fields(JobConfig)),
)
# keys that came after the first studies: at these values a run is the one that it was before there was the key
_YOUNG: dict[str, Any] = {"weights": "", "freeze": [], "monitor": "ssim"}


def run_id(settings: Mapping[str, Any], stage: str, data: str) -> str:
    """16 hex digits.

    Args:
        settings: All dotted configuration keys of the run, seed, threads, precision and protocol among them.
        stage: Of the study; reruns are scored on test volumes, the others are not.
        data: Hash of the data manifest.
    """
    decides = {key: value for key, value in settings.items() if key not in _LEFT_OUT}
    decides = {key: value for key, value in decides.items() if key not in _YOUNG or value != _YOUNG[key]}
    text = json.dumps([stage, data, decides], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def scale_id(settings: Mapping[str, Any], data: str) -> str:
    """Like `run_id`, of what decides the scores of zero-filled images."""
    decides = {key: value for key, value in settings.items() if key.startswith("data.") and key not in _LEFT_OUT}
    decides |= {key: settings[key] for key in ("protocol", "val_volumes")}
    return sha256(json.dumps([data, decides], sort_keys=True).encode()).hexdigest()[:16]


@cache
def code_hash() -> str:
    """12 hex digits over the package's `.py` files, by name and content."""
    folder = Path(mrirecon.__file__).parent
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]
