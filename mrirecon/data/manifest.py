"""What a data set is, in one hash: names, sizes, shapes and headers; not the samples, which may be a terabyte."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from mrirecon.data.volume import Volume


def data_manifest(volumes: Sequence[Volume]) -> dict[str, Any]:
    """Number of volumes and the SHA-256 over their sorted (name, bytes, k-space shape, bytes of samples, header)."""
    rows = sorted(_row(volume) for volume in volumes)
    digest = sha256(json.dumps(rows).encode()).hexdigest()
    return {"n_volumes": len(rows), "sha256": digest}


def _row(volume: Volume) -> list[Any]:
    header = sha256(volume.header.to_xml()).hexdigest()
    return [volume.name, volume.path.stat().st_size, list(volume.shape), volume.facts.n_bytes, header]
