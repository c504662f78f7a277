"""What a word in the wrong place of a command line was meant for, and the call that says so."""

import shlex
from collections.abc import Container, Sequence
from pathlib import Path

from mrirecon.configfile import shipped_configs
from mrirecon.errors import InputError
from mrirecon.tables.methods import METHODS

_CHECKPOINTS = {"best.ckpt": "best", "last.ckpt": "last"}
# kind of a word -> keys and flags of which a command must have one, and the option that the word belongs to
_OPTIONS = {
    "data": (("data.path", "data"), "--data"),
    "data file": (("data.path", "data"), "--data"),
    "run": (("--resume",), "--resume"),
    "configuration": (("data.path", "data"), "-c"),
    "images": (("source",), "--from"),
}


def require_kind(command: str, words: Sequence[str], arguments: Sequence[str]) -> None:
    """Raise an InputError with the right call where the first word is data, or a part of a run, in the place of a run.

    Args:
        command: Its name.
        words: The words before the options.
        arguments: All that was typed after the command.
    """
    if not words or command not in ("evaluate", "reconstruct", "export", "report", "ablate run"):
        return
    first, others, kind = words[0], list(arguments[1:]), _kind(words[0])
    what = f"{first} is a folder of data" if kind == "data" else f"{first} is a file of data"
    if kind in ("data", "data file") and command == "ablate run":
        raise InputError(f"{what}, not a grid: {call(command, ['GRID', '--data', _folder(first), *others])}")
    if kind in ("data", "data file") and command == "evaluate":
        asked = call(command, ["zero-filled", "--data", _folder(first), *others])
        raise InputError(f"{what}, not a run or a method: {asked}")
    if kind in ("data", "data file") and command == "reconstruct":
        runs = [word for word in words if _kind(word) in ("run", "")] or ["RUN"]
        files = [word for word in words if word != runs[0]]
        asked = call(command, [runs[0], *files, *arguments[len(words) :]])
        raise InputError(f"{what}; the run or the method comes first: {asked}")
    for word in words[1:] if command == "evaluate" else ():
        if _kind(word) in ("data", "data file"):
            runs = [other for other in words if other != word]
            asked = call(command, [*runs, "--data", _folder(word), *arguments[len(words) :]])
            raise InputError(f"{word} is data, not a run or a method; --data comes before it: {asked}")
    run, which = _run_around(Path(first)), _CHECKPOINTS.get(Path(first).name, "")
    is_no_weights = command in ("export", "report") or Path(first).is_dir()  # the others take files of weights
    if run and command != "ablate run" and is_no_weights and (which or command == "report" or Path(first).is_dir()):
        more = ["--checkpoint", which] if which and command == "export" else []
        raise InputError(f"{first} is a part of a run: {call(command, [run, *others, *more])}")


def right_place(
    command: str, words: Sequence[str], arguments: Sequence[str], stray: str, known: Container[str], is_missing: bool
) -> str:
    """Say where an unexpected word belongs, as the end of a sentence about it; empty: not known.

    Args:
        command: Its name.
        words: The words before the options.
        arguments: All that was typed after the command.
        stray: The word, one of `arguments`.
        known: The command's keys and its flags.
        is_missing: The command needs a further word before the options.
    """
    place = list(arguments).index(stray, len(words))
    before, after = list(arguments[:place]), list(arguments[place + 1 :])
    if is_missing:
        return f"words come before options: {call(command, [*words, stray, *before[len(words) :], *after])}"
    kind = _kind(stray)
    if command == "evaluate" and (kind == "run" or stray in METHODS):
        return f"words come before options: {call(command, [*words, stray, *before[len(words) :], *after])}"
    keys, option = _OPTIONS.get(kind, ((), ""))
    if not any(key in known for key in keys) or option in arguments:
        return ""
    return f"{option} comes before it: {call(command, [*before, option, _folder(stray), *after])}"


def call(command: str, arguments: Sequence[str]) -> str:
    """A command line as it is typed."""
    return f"mrirecon {command} {shlex.join(arguments)}".rstrip()


def _kind(word: str) -> str:
    """Name the kind of a word: run, data, data file, images, configuration; empty: nothing, or something else."""
    path = Path(word)
    if path.is_dir():
        return "run" if _is_run(path) else "data" if _holds_data(path) else ""
    if path.suffix == ".h5" and path.is_file():
        return "data file"
    if path.name.endswith((".nii", ".nii.gz")) and path.is_file():
        return "images"
    if any(word in (name, Path(name).name) for name in shipped_configs()) or (
        path.suffix in (".yaml", ".yml") and path.is_file()
    ):
        return "configuration"
    return ""


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() and any((path / n).exists() for n in ("checkpoints", "provenance.json"))


def _run_around(path: Path) -> str:
    """The run folder that something is inside of."""
    return next((str(folder) for folder in path.parents if path.exists() and _is_run(folder)), "")


def _holds_data(folder: Path) -> bool:
    """Files of k-space, or folders of them."""
    inside = (path for path in folder.iterdir() if path.is_dir() and path.name.endswith(("train", "val", "test")))
    return any(next(place.glob("*.h5"), None) for place in (folder, *inside))


def _folder(word: str) -> str:
    """Return the folder that a file of data is in; anything else as it is."""
    return str(Path(word).parent) if _kind(word) == "data file" else word
