"""Names of runs that were given none."""

from typing import Any

from mrirecon.config.train import TrainConfig


def run_name(config: TrainConfig) -> str:
    """Return `<norm>-<optimizer>`."""
    return f"{short_name(config.model.norm)}-{short_name(config.optimizer.name)}"


def short_name(value: Any) -> str:
    """Return the name of a norm or an optimizer, or the class of its class path."""
    return value if isinstance(value, str) else str(value.get("class_path", "custom")).rsplit(".")[-1]
