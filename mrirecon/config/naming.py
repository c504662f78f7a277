"""What a run is called that was given no name."""

from typing import Any

from mrirecon.config.train import TrainConfig


def run_name(config: TrainConfig) -> str:
    """<norm>-<optimizer>."""
    return f"{_short(config.model.norm)}-{_short(config.optimizer.name)}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else str(value.get("class_path", "custom")).rsplit(".")[-1]
