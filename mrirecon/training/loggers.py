"""Loggers beside curves.csv."""

import os
import socket
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from mrirecon.errors import unknown_name
from mrirecon.runs import RunFolder

LOGGERS = ("csv", "wandb")
_HOST = "api.wandb.ai"


def check_logger(name: str) -> None:
    """Raise an InputError for an unknown name."""
    if name not in LOGGERS:
        raise unknown_name("logger", name, LOGGERS)


def make_loggers(name: str, run: RunFolder, config: dict[str, Any]) -> list[Logger]:
    """No further logger for `csv` (curves.csv is always written), the wandb client for `wandb`.

    Without a key or without a network wandb writes to the run folder offline; it never asks.
    """
    if name == "csv":
        return []
    os.environ.setdefault("WANDB_SILENT", "true")
    from pytorch_lightning.loggers import WandbLogger

    if os.environ.get("WANDB_MODE") is None and not _reachable():
        os.environ["WANDB_MODE"] = "offline"
    return [WandbLogger(name=run.name, project="mrirecon", save_dir=str(run.path), config=config)]


def close_loggers(name: str) -> None:
    """End what `make_loggers` began, so that the next training of this process gets a wandb run of its own."""
    if name == "wandb":
        import wandb

        wandb.finish()


def _reachable() -> bool:
    """A key is at hand and the server answers within two seconds."""
    if not (os.environ.get("WANDB_API_KEY") or _key_in_netrc()):
        return False
    try:
        with socket.create_connection((_HOST, 443), timeout=2):
            return True
    except OSError:
        return False


def _key_in_netrc() -> bool:
    try:
        return netrc(Path.home() / ".netrc").authenticators(_HOST) is not None
    except (OSError, NetrcParseError):
        return False
