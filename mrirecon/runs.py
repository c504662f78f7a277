"""The run folder: the one place that knows its file names. No torch here."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from mrirecon.errors import InputError

# what a run folder may hold; `config.yaml` alone is a common name of other people's folders too
_CONTENTS = (
    *("config.yaml", "provenance.json", "split.json", "data.csv", "curves.csv", "weights.safetensors", "report.html"),
    "lr-find.csv",
    *("checkpoints", "figures", "evaluation", "export", "tensorboard", "wandb", "slurm"),
)


@dataclass(frozen=True)
class RunFolder:
    """What one training leaves behind, readable without this package."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / "config.yaml"

    @property
    def provenance(self) -> Path:
        """Versions, device, seed, data and masks, JSON."""
        return self.path / "provenance.json"

    @property
    def split(self) -> Path:
        """Which volume went to which split, JSON."""
        return self.path / "split.json"

    @property
    def data(self) -> Path:
        """The files of train and val: sizes, times of change and hashes of their content, CSV."""
        return self.path / "data.csv"

    @property
    def curves(self) -> Path:
        """Loss, learning rate and validation scores over steps, CSV."""
        return self.path / "curves.csv"

    @property
    def lr_find(self) -> Path:
        """The learning rate range test, CSV, where there was one."""
        return self.path / "lr-find.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, each with its SHA-256 in a file beside it."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """The best network's state dict, safetensors."""
        return self.path / "weights.safetensors"

    @property
    def figures(self) -> Path:
        """Folder of the training's own figures."""
        return self.path / "figures"

    @property
    def export(self) -> Path:
        """Folder of the network's exported files and their model card."""
        return self.path / "export"

    @property
    def slurm(self) -> Path:
        """Logs and job files of a run that was submitted to SLURM; made before the run, and kept when it begins."""
        return self.path / "slurm"

    @property
    def report(self) -> Path:
        """The run's page, HTML."""
        return self.path / "report.html"

    def checkpoint(self, which: str) -> Path:
        """`best` (by the monitored validation score), `last`, or `previous` (before `last`, while a run is not done).

        Raises:
            InputError: Another name.
        """
        if which not in ("best", "last", "previous"):
            raise InputError(f"unknown checkpoint '{which}'; use best or last")
        return self.checkpoints / f"{which}.ckpt"

    def volumes(self) -> dict[str, list[str]]:
        """Names of the volumes of each split; empty where they are not recorded."""
        try:
            found = json.loads(self.split.read_text(encoding="utf-8"))
            return {str(split): [str(name) for name in names] for split, names in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def was_trained_on(self, data: Path) -> bool:
        """Whether a folder holds all volumes of the run's splits under their names, as its own data and copies do."""
        return all((data / name).is_file() for names in self.volumes().values() for name in names)

    def evaluation(self, data: str, split: str, mask: str, times: str, protocol: str = "") -> Path:
        """Folder of one evaluation's tables and figures.

        `times` is the nominal acceleration in words (4x, mixed, undeclared); `protocol` is named where it is not the
        usual one.
        """
        return self.path / "evaluation" / "-".join([data, split, mask, times, *([protocol] if protocol else [])])


def open_run(path: str | Path) -> RunFolder:
    """An existing run folder.

    Raises:
        InputError: The folder is absent or holds no run.
    """
    run = RunFolder(Path(path))
    if not run.path.is_dir():
        raise InputError(f"no run folder at {run.path}; give the folder that `mrirecon train` printed")
    if not run.config.is_file():
        raise InputError(f"{run.path} is not a run folder: it has no {run.config.name}")
    return run


def checkpoint_in_run(path: str | Path) -> tuple[RunFolder, str] | None:
    """The run, and the name, of a checkpoint that is given by its path, such as RUN/checkpoints/last.ckpt."""
    file = Path(path).absolute()
    run = RunFolder(file.parent.parent)
    if not run.config.is_file():
        return None
    return next(((run, which) for which in ("best", "last", "previous") if run.checkpoint(which) == file), None)


def run_of(word: str | Path) -> RunFolder | None:
    """The run that a word means, a run folder or one of its checkpoints; None: it is something else."""
    run = (checkpoint_in_run(word) or (RunFolder(Path(word)), ""))[0]
    return run if run.config.is_file() else None


def new_run(output: str | Path, default_name: str, overwrite: bool = False) -> RunFolder:
    """Make an empty run folder; an empty `output` means runs/<default_name>-<date and time>.

    Raises:
        InputError: The folder holds something and `overwrite` is off, or it holds something that is no run.
    """
    path = Path(output) if output else default_path(default_name)
    run = RunFolder(path)
    require_replaceable(path, overwrite)
    for old in _left_in(run):
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the run folder {path}: {error.strerror}; choose another --output") from None
    return run


def default_path(name: str) -> Path:
    """runs/<name>-<date and time>; two runs started within one second do not share a folder."""
    candidate = path = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    n = 2
    while candidate.exists():
        candidate, n = path.with_name(f"{path.name}-{n}"), n + 1
    return candidate


def _left_in(run: RunFolder) -> list[Path]:
    """What an earlier run left; the files of the job that is about to begin one are not that."""
    return [path for path in run.path.iterdir() if path != run.slurm] if run.path.is_dir() else []


def require_replaceable(path: Path, overwrite: bool) -> None:
    """Refuse a place for a run where something else is.

    Raises:
        InputError: It holds something and `overwrite` is off, or it holds something that is no run.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give a folder for the run (--output)")
    run = RunFolder(path)
    if not _left_in(run):
        return
    if not overwrite:
        raise InputError(
            f"{run.path} is not empty; choose another --output, add --overwrite, "
            f"or go on with it: mrirecon train --resume {run.path}"
        )
    if not run.config.is_file():
        raise InputError(f"{run.path} is not a run folder; it is not overwritten: choose another --output")
    names = sorted(path.name for path in run.path.iterdir())
    foreign = [name for name in names if name not in _CONTENTS and not name.endswith(".tmp")]
    if foreign:
        raise InputError(f"{run.path} holds {foreign[0]}, which no run wrote; it is not overwritten: move it away")
