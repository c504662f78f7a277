"""Loggers beside curves.csv."""

import os
import socket
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from mrirecon.errors import unknown_name
from mrirecon.files import read_json, write_json
from mrirecon.runs import RunFolder

LOGGERS = ("csv", "tensorboard", "wandb", "none")
_HOST = "api.wandb.ai"


def check_logger(name: str) -> None:
    """Raise an InputError for an unknown name."""
    if name not in LOGGERS:
        raise unknown_name("logger", name, LOGGERS)


def make_loggers(name: str, run: RunFolder, config: dict[str, Any]) -> list[Logger]:
    """What writes beside curves.csv, which is always written: nothing for `csv` and `none`.

    `tensorboard` writes event files to `tensorboard/` of the run folder. `wandb` logs to its server or, without a key
    or without a network, to the run folder; it never asks. Which wandb run it is stands in the run's provenance, and
    a resumed training goes on with it.
    """
    if name == "tensorboard":
        return [Events(run, config)]
    return [_wandb_logger(run, config)] if name == "wandb" else []


def close_loggers(name: str) -> None:
    """End what `make_loggers` began, so that the next training of this process gets a wandb run of its own."""
    if name == "wandb":
        import wandb

        wandb.finish()


class Events(TensorBoardLogger):
    """TensorBoard's event files, in one folder without levels below it.

    Args:
        run: Its folder gets `tensorboard/`.
        config: The configuration, shown as hyperparameters beside the validation scores.
    """

    def __init__(self, run: RunFolder, config: Mapping[str, Any]) -> None:
        super().__init__(save_dir=str(run.path), name="tensorboard", version="", default_hp_metric=False)
        self.config = config
        self.hparams = dict(config)  # Lightning writes them to hparams.yaml

    def begin(self, step: int) -> None:
        """Start at `step`: what was written after it belongs to work that will be done again and is not shown."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from torch.utils.tensorboard.summary import hparams

        file = self.experiment._get_file_writer()
        if step:
            file.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step + 1)
            return
        # Not `log_hyperparams`: it would add a curve to name the score.
        scores = dict.fromkeys(("val_ssim", "val_psnr", "val_nmse"), 0.0)
        for summary in hparams(_flat(self.config), scores):
            file.add_summary(summary)

    def log_image(self, key: str, images: list[Any], step: int | None = None, caption: Any = None) -> None:
        """The first of `images`, `(height, width)` bytes; TensorBoard shows no captions."""
        self.experiment.add_image(key, images[0], step, dataformats="HW")


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted keys as on the command line; what is neither number, switch nor text becomes text."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{key}.")
        else:
            flat[above + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def prepare_wandb() -> None:
    """Before wandb is imported: quiet, and offline where there is no key or no network."""
    os.environ.setdefault("WANDB_SILENT", "true")
    if os.environ.get("WANDB_MODE") is None and not _reachable():
        os.environ["WANDB_MODE"] = "offline"


def _wandb_logger(run: RunFolder, config: dict[str, Any]) -> Logger:
    prepare_wandb()
    from pytorch_lightning.loggers import WandbLogger

    facts = read_json(run.provenance)
    known = facts.get("wandb", {}).get("id")
    logger = WandbLogger(
        name=run.name, project="mrirecon", save_dir=str(run.path), id=known, resume="allow", config=config
    )
    if not logger.experiment.disabled:
        write_json(run.provenance, {**facts, "wandb": _identity(logger.experiment, run)})
    return logger


def _identity(client: Any, run: RunFolder) -> dict[str, str | None]:
    """Where to find the logged curves: the page, or the folder for `wandb sync` (of the last resume; all end in id)."""
    folder = Path(client.dir).parent
    return {
        "id": client.id,
        "project": client.project,
        "name": client.name,
        "url": None if client.offline else client.url,
        "offline_folder": Path(os.path.relpath(folder, run.path)).as_posix() if client.offline else None,
    }


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
