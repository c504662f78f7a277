"""What a run is called that was given no name."""

from typing import Any

from mrirecon.config.train import TrainConfig


def run_name(config: TrainConfig) -> str:
    """<norm>-<optimizer>."""
    return f"{short_name(config.model.norm)}-{short_name(config.optimizer.name)}"


def short_name(value: Any) -> str:
    """Of a norm or an optimizer: its name, or the class of a class path."""
    return value if isinstance(value, str) else str(value.get("class_path", "custom")).rsplit(".")[-1]
