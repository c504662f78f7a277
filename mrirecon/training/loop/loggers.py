"""Loggers beside curves.csv."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from mrirecon.config.train import LOGGERS
from mrirecon.errors import unknown_name
from mrirecon.files import read_json, write_json
from mrirecon.progress import warn
from mrirecon.runs import RunFolder
from mrirecon.tables.metrics import in_files, validation_metrics

_ANSWER_S, _INIT_S = 5, 30


def check_logger(name: str) -> None:
    """Raise an InputError for an unknown name."""
    if name not in LOGGERS:
        raise unknown_name("logger", name, LOGGERS)


class Loggers:
    """A logger beside curves.csv, used as a context that ends it. No fault of it ends the work.

    The first error of a logger is told in one line, and it is called no more.

    Args:
        name: csv, tensorboard, wandb or none.
        run: `tensorboard` writes event files to its `tensorboard/`. `wandb` logs as `start_wandb` says; which wandb run
            it is stands in the run's provenance, and a resumed training goes on with it.
        config: The configuration, shown beside the curves.
    """

    def __init__(self, name: str, run: RunFolder, config: dict[str, Any]) -> None:
        self.name, self.run, self.config = name, run, config
        self._logger: Logger | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with self._given_up_at_an_error():
            if self.name == "tensorboard":
                self._logger = Events(self.run, self.config)
            elif self.name == "wandb":
                self._open.enter_context(wandb_in(self.run.path))
                self._logger = _wandb_logger(self.run, self.config)
        return self

    def __exit__(self, *_error: object) -> None:
        self.call("finalize", "success")
        with self._given_up_at_an_error():
            self._open.close()
        self._logger = None

    def __bool__(self) -> bool:
        return self._logger is not None

    def call(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of the logger, where it has it."""
        if hasattr(self._logger, method):
            with self._given_up_at_an_error():
                getattr(self._logger, method)(*args, **kwargs)

    @contextmanager
    def _given_up_at_an_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._logger = None
            warn(f"warning: {self.name} logs no more ({_one_line(error)}); curves.csv goes on")


class Events(TensorBoardLogger):
    """TensorBoard's event files, in one folder without levels below it.

    Args:
        run: Its folder gets `tensorboard/`.
        config: The configuration, shown as hyperparameters beside the validation scores.
    """

    def __init__(self, run: RunFolder, config: Mapping[str, Any]) -> None:
        super().__init__(save_dir=str(run.path), name="tensorboard", version="", default_hp_metric=False)
        self.config = config
        self.hparams = dict(config)  # its end writes them to hparams.yaml

    def begin(self, step: int) -> None:
        """Start at `step`: what was written after it belongs to work that will be done again and is not shown."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from torch.utils.tensorboard.summary import hparams

        file = self.experiment._get_file_writer()
        if step:
            file.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step + 1)
            return
        # Not `log_hyperparams`: it would add a curve to name the score.
        scores = dict.fromkeys(
            (f"val_{name}" for name in in_files(validation_metrics(str(self.config.get("monitor"))))), 0.0
        )
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


@contextmanager
def wandb_in(folder: Path) -> Iterator[None]:
    """Send wandb's files to `folder`, also those that it stages in HOME, and end its run after the work inside.

    By the variables of https://docs.wandb.ai/guides/track/environment-variables, where the user has not set them.
    """
    here, home = str(folder.absolute() / "wandb"), Path.home()
    mine = {"WANDB_SILENT": "true", "WANDB_DATA_DIR": here}
    if not (home.is_dir() and os.access(home, os.W_OK)):
        mine |= {"WANDB_CACHE_DIR": here, "WANDB_CONFIG_DIR": here}
    mine = {name: value for name, value in mine.items() if name not in os.environ}
    os.environ |= mine
    try:
        yield
    finally:
        try:
            import wandb

            wandb.finish()
        finally:
            for name in mine:
                del os.environ[name]


def start_wandb(folder: Path, **given: Any) -> Any:
    """Start a wandb run in `folder`, on the server, by the proxy and in the mode that wandb's own settings name.

    It is offline where there is no key for the server, no answer from it, or where it refuses the run; a line says why.

    Args:
        folder: Gets `wandb/`.
        **given: To `wandb.init`.
    """
    import wandb

    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    settings = wandb.setup().settings
    why = _why_offline(settings) if settings.mode in (None, "online") else ""
    if not why:
        try:
            patience = settings.init_timeout if "WANDB_INIT_TIMEOUT" in os.environ else _INIT_S
            return wandb.init(dir=str(folder), settings=wandb.Settings(init_timeout=patience), **given)
        except wandb.errors.Error as error:
            why = f"{settings.base_url}: {_one_line(error)}"
    warn(f"note: wandb logs offline, to {folder / 'wandb'} ({why}); for its server: wandb sync FOLDER")
    return wandb.init(dir=str(folder), mode="offline", **given)


def _why_offline(settings: Any) -> str:
    """Tell why wandb is offline; empty where there is a key for its server and the server answers, whatever it says."""
    import requests
    from requests.utils import get_netrc_auth

    url = settings.base_url
    if not (settings.api_key or getattr(settings, "identity_token_file", None) or get_netrc_auth(url)):
        return f"no key for {url}: wandb login, or WANDB_API_KEY"
    proxies = {"http": settings.http_proxy, "https": settings.https_proxy}
    try:
        requests.head(url, timeout=_ANSWER_S, proxies={k: v for k, v in proxies.items() if v})
    except requests.RequestException as error:
        return f"no answer from {url}: {type(error).__name__}"
    return ""


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _wandb_logger(run: RunFolder, config: dict[str, Any]) -> Logger:
    from pytorch_lightning.loggers import WandbLogger

    facts = read_json(run.provenance)
    known = facts.get("wandb", {}).get("id")
    client = start_wandb(run.path, name=run.name, project="mrirecon", id=known, resume="allow", config=config)
    client.define_metric("trainer/global_step")
    client.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    if not client.disabled:
        write_json(run.provenance, {**facts, "wandb": _identity(client, run)})
    return WandbLogger(experiment=client)


def _identity(client: Any, run: RunFolder) -> dict[str, str | None]:
    """Tell where the logged curves are: the page, or the folder for `wandb sync` (of the last resume)."""
    folder = Path(client.dir).parent
    return {
        "id": client.id,
        "project": client.project,
        "name": client.name,
        "url": None if client.offline else client.url,
        "offline_folder": Path(os.path.relpath(folder, run.path)).as_posix() if client.offline else None,
    }
