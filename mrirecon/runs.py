"""The run folder: the one place that knows its file names; and what a number in it depends on, its provenance."""

import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mrirecon
from mrirecon.errors import InputError
from mrirecon.files import read_json
from mrirecon.leases import Leases

WRITTEN_IN_TRAINING = ("checkpoints", "figures", "tensorboard", "wandb")  # folders of a run folder
_LOCK_LIMIT_S = 60.0  # without a sign of life from another host
# what a run folder may hold; `config.yaml` alone is a common name of other people's folders too
_CONTENTS = (
    *("config.yaml", "provenance.json", "split.json", "data.csv", "curves.csv", "weights.safetensors", "report.html"),
    *("lr-find.csv", ".lock"),
    *WRITTEN_IN_TRAINING,
    *("evaluation", "export", "slurm"),
)
# packages that numbers depend on
_PACKAGES = ("torch", "pytorch-lightning", "fastmri", "numpy", "h5py", "scikit-image", "scipy")


def package_versions() -> dict[str, str | None]:
    """Return the installed version of each package that numbers depend on; None where it is not installed."""
    found: dict[str, str | None] = dict.fromkeys(_PACKAGES)
    for name in found:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@dataclass(frozen=True)
class RunFolder:
    """The folder that one training leaves behind, readable without this package."""

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
        """File of the volumes of each split, JSON."""
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
        """The learning rate range test (Smith 2017), CSV, where there was one."""
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
    def lock(self) -> Path:
        """File that names the process that writes the run, JSON; there while one does. See `RunLock`."""
        return self.path / ".lock"

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
        """Names of the volumes of each split; empty where they are not recorded.

        Raises:
            InputError: `split.json` is something that no run writes, and that is not read.
        """
        try:
            found = read_json(self.split)
            return {str(split): [str(name) for name in names] for split, names in found.items()}
        except InputError:
            raise
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def was_trained_on(self, data: Path) -> bool:
        """Return whether a folder holds all volumes of the run's splits by name, as its own data and copies do."""
        return all((data / name).is_file() for names in self.volumes().values() for name in names)

    def require_inside(self, path: Path) -> None:
        """Raise an InputError where `path`, below this folder, is or goes through a link: a stranger chose its end."""
        for part in (path, *path.parents):
            if part == self.path:
                return
            if part.is_symlink():
                raise InputError(
                    f"{part} is a link to {part.readlink()}; nothing is written through links in a run folder: put a "
                    "folder in its place (cp -rL), or give another --output where there is that option"
                )

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
    _make(run)
    return run


def _make(run: RunFolder) -> None:
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the run folder {run.path}: {error.strerror}; choose another --output") from None


class RunLock:
    """One command at a time writes a run: a lease on its folder. Who only reads a run, or evaluates it, needs none.

    Of several processes that train together the first one has it.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.leases = Leases(run.path, _LOCK_LIMIT_S)

    @contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[None]:
        """Take the lock, and give it back; the folder is made where there is none.

        One that a dead process of this host left is taken over at once. One of another host is watched for a minute,
        which `say` gets told: its holder may live.

        Raises:
            InputError: Another command writes the run, or nobody may write there.
        """
        _make(self.run)
        try:
            self._take(say)
        except (PermissionError, FileNotFoundError) as error:
            raise InputError(
                f"{self.run.path} cannot be written: {error.strerror}; choose another folder, or go on with a copy of "
                "your own (cp -r --no-preserve=mode)"
            ) from None
        with self.leases.held(self.run.lock.name):
            yield

    def require_unused(self) -> None:
        """Raise an InputError where a process of this host writes the run; of other hosts nothing is known at once."""
        name = self.run.lock.name
        if self.leases.lives_here(name) and self.leases.holder(name)["pid"] != self.leases.me["pid"]:
            raise InputError(self._in_use())

    @property
    def is_lost(self) -> bool:
        """Another command has taken the lock over, as this process had been stalled for long."""
        return self.leases.lost.is_set()

    def _take(self, say: Callable[[str], None]) -> None:
        name, waiting = self.run.lock.name, False
        while not self.leases.take(name):
            if self.leases.lives_here(name) or self.leases.is_beating(name):
                raise InputError(self._in_use())
            if not waiting:
                say(
                    f"note: {self._whose()} began to write {self.run.path} and may still; "
                    f"waiting {_LOCK_LIMIT_S:.0f} s for a sign of life"
                )
            waiting = True
            time.sleep(_LOCK_LIMIT_S / 60)

    def _in_use(self) -> str:
        return (
            f"{self.run.path} is in use: {self._whose()} writes it; wait for its end or stop it, "
            "or choose another --output"
        )

    def _whose(self) -> str:
        holder = self.leases.holder(self.run.lock.name)
        host = str(holder.get("host"))[:64]  # a stranger may have written it
        known = isinstance(holder.get("pid"), int) and host.isprintable()
        return f"process {holder['pid']} on {host}" if known else "another process"


def default_path(name: str) -> Path:
    """runs/<name>-<date and time>; two runs started within one second do not share a folder."""
    candidate = path = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    n = 2
    while candidate.exists():
        candidate, n = path.with_name(f"{path.name}-{n}"), n + 1
    return candidate


def _left_in(run: RunFolder) -> list[Path]:
    """List what an earlier run left, without the lock and the files of the job that is about to begin one."""
    kept = (run.slurm, run.lock)
    return [path for path in run.path.iterdir() if path not in kept] if run.path.is_dir() else []


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
    RunLock(run).require_unused()
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


# ---- record what a number depends on besides the configuration: code, versions, machine, data


def provenance(**facts: Any) -> dict[str, Any]:
    """Versions, machine and the given facts, ready for JSON."""
    import torch

    return {
        "mrirecon": mrirecon.__version__,
        "git": git_state(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": package_versions(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **facts,
    }


def git_state() -> dict[str, Any] | None:
    """Commit and whether files differ from it, when the package runs from a checkout."""
    folder = Path(mrirecon.__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", "."))} if commit else None


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
