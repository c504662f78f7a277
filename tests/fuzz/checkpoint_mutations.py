"""Every class of mutation of a checkpoint, by name; and the hash file beside it: stale, right again, or gone."""

import hashlib
from pathlib import Path

import numpy as np
from checkpoint_bytes import DAMAGE
from checkpoint_contents import CHANGES

_ALL = {**DAMAGE, **CHANGES}
CLASSES = tuple(_ALL)
HASHES = ("stale", "right", "none")


def mutate_checkpoint(path: Path, name: str, hash_file: str, rng: np.random.Generator) -> None:
    """Mutate the checkpoint at `path` in place.

    Args:
        path: A checkpoint with its hash file.
        name: One of `CLASSES`.
        hash_file: One of `HASHES`.
        rng: Decides the mutation.
    """
    data = path.read_bytes()
    changed = _ALL[name](data, rng)
    path.write_bytes(changed)
    beside = path.with_name(f"{path.name}.sha256")
    if hash_file == "right":
        old, new = (hashlib.sha256(content).hexdigest() for content in (data, changed))
        beside.write_text(beside.read_text().replace(old, new))
    elif hash_file == "none":
        beside.unlink()
