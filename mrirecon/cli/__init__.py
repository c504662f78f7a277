"""The program `mrirecon`: finds the command and runs it. Torch is imported only by the work itself."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from mrirecon import __version__
from mrirecon.errors import InputError, unknown_name

if TYPE_CHECKING:
    from mrirecon.cli.command import Command

# name on the command line -> module of this package and the `Command` in it
COMMANDS = {
    "demo": "data.DEMO",
    "data simulate": "data.SIMULATE",
    "config list": "config.LIST",
    "config show": "config.SHOW",
    "train": "train.TRAIN",
    "evaluate": "evaluate.EVALUATE",
    "export": "results.EXPORT",
    "reconstruct": "reconstruct.RECONSTRUCT",
    "score": "results.SCORE",
    "compare": "results.COMPARE",
    "ablate run": "ablate.RUN",
    "ablate status": "ablate.STATUS",
    "ablate report": "ablate.REPORT",
    "ablate worker": "ablate.WORKER",
    "report": "results.REPORT",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `mrirecon ARGUMENTS` and return its exit code."""
    from mrirecon.cli.command import run_safely

    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_safely(lambda: _dispatch(words), debug="--debug" in words)


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return
    if words[0] == "--version":
        print(f"mrirecon {__version__}")
        return
    if words[0] in _families() and words[1:2] in ([], ["--help"], ["-h"]):
        print(_overview(f"{words[0]} "))
        return
    for n_words in (2, 1):
        name = " ".join(words[:n_words])
        if name in COMMANDS:
            find_command(name)(words[n_words:])
            return
    name = " ".join(words[:2]) if words[0] in _families() else words[0]
    if name.startswith("-"):
        raise InputError(f"unknown option '{name}'; a command comes first: {', '.join(COMMANDS)}")
    raise unknown_name("command", name, COMMANDS, "See mrirecon --help.")


def find_command(name: str) -> "Command":
    """Return the command of a name in `COMMANDS`; of all commands' modules only its own is imported."""
    module, _, variable = COMMANDS[name].partition(".")
    found: Command = getattr(import_module(f"mrirecon.cli.{module}"), variable)
    return found


def _families() -> set[str]:
    """Return the first words of the commands of two words."""
    return {name.split()[0] for name in COMMANDS if " " in name}


def _overview(prefix: str = "") -> str:
    names = [name for name in COMMANDS if name.startswith(prefix)]
    lines = [
        "usage: mrirecon COMMAND [options]",
        "",
        "From undersampled k-space to trained, scored reconstructions.",
        "",
    ]
    lines += [f"  {name:<16} {find_command(name).summary}" for name in names]
    return "\n".join([*lines, "", "mrirecon COMMAND --help shows every option; --version the version."])
