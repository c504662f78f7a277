"""The files of a run as a report reads them: what is missing leaves a gap."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """A file of the run, empty where it is missing or damaged: a card with a gap is better than none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where it is missing."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def slices_per_step(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Slices of all processes that an optimizer step of a training averaged over.

    Args:
        recorded: Its provenance; `gd` counts the training set there.
        config: Its dotted keys, for a training that recorded nothing.
    """
    batch = recorded.get("batch")
    found = batch.get("slices_per_step") if isinstance(batch, dict) else None
    factors = ("batch_size", "accumulate", "devices", "num_nodes")
    return found if isinstance(found, int) else math.prod(int(config.get(name, 1)) for name in factors)
