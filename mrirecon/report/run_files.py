"""The files of a run as a report reads them: what is missing leaves a gap."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrirecon import files
from mrirecon.errors import InputError

COMPARISON, TABLE = "comparison.json", "table.csv"  # of several things, as `evaluate` and `compare` write them


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of the run; empty where it is missing or damaged: a card with a gap is better than none.

    Raises:
        InputError: It is something that no run writes: no ordinary file, too large, nested too deeply.
    """
    try:
        found = files.read_json(path)
    except InputError:
        raise
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file; none where it is missing.

    Raises:
        InputError: It is no table, or something that no run writes.
    """
    try:
        return files.read_table(path)[1]
    except FileNotFoundError:
        return []


def slices_per_step(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Return the number of slices, of all processes, that an optimizer step of a training averaged over.

    Args:
        recorded: Its provenance; `gd` counts the training set there.
        config: Its dotted keys, for a training that recorded nothing.
    """
    batch = recorded.get("batch")
    found = batch.get("slices_per_step") if isinstance(batch, dict) else None
    factors = ("batch_size", "accumulate", "devices", "num_nodes")
    return found if isinstance(found, int) else math.prod(int(config.get(name, 1)) for name in factors)


def name_of(value: Any) -> str:
    """Return the name of a configured thing, or its class path where the configuration names a class."""
    return str(value.get("class_path", value)) if isinstance(value, Mapping) else str(value)
