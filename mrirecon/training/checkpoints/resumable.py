"""Which checkpoint a run goes on from: the last one or, where that is damaged, the one before it."""

from pathlib import Path

from mrirecon import ranks
from mrirecon.errors import InputError
from mrirecon.progress import warn
from mrirecon.runs import RunFolder
from mrirecon.training.checkpoints.hashes import load_checkpoint, sound_digest

_ORDER = ("last", "previous")


def resumable(run: RunFolder) -> Path:
    """The newest sound checkpoint of a run; all processes get the same one.

    Raises:
        InputError: There is none.
    """
    choice, line = ranks.from_first(lambda: _choose(run))
    if choice is None:
        raise InputError(line)
    if line:
        warn(f"warning: {line}")
    return run.checkpoint(choice)


def what_is_kept(run: RunFolder) -> str:
    """Which checkpoint a training that broke off has left, and how to go on from it, as the end of a sentence."""
    try:
        step = load_checkpoint(run.checkpoint("last"))["global_step"]
    except (InputError, KeyError):
        return f"there is no checkpoint yet: start again with mrirecon train -c {run.config}"
    return f"the checkpoint of step {step} is kept: go on with mrirecon train --resume {run.path}"


def _choose(run: RunFolder) -> list[str | None]:
    """A name, and what to warn of; or None and the error."""
    bad: list[str] = []
    for name in _ORDER:
        path = run.checkpoint(name)
        if sound_digest(path):
            return [name, _warning(path, bad) if bad else None]
        bad.append(f"{path.name} is {'damaged' if path.is_file() else 'missing'}")
    if not any(run.checkpoint(name).is_file() for name in _ORDER):
        return [None, f"{run.path} has no checkpoint yet; start again: mrirecon train -c {run.config}"]
    return [None, f"{run.path} cannot go on: {' and '.join(bad)}; start again: mrirecon train -c {run.config}"]


def _warning(path: Path, bad: list[str]) -> str:
    return f"{bad[0]} in {path.parent}; the run goes on from {path.name}, the checkpoint before it"
