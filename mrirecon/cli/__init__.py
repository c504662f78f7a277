"""The program `mrirecon`: finds the command and runs it. Torch is imported only by the work itself."""

import sys
from collections.abc import Sequence
from importlib import import_module

from mrirecon import __version__
from mrirecon.errors import InputError, unknown_name

# name on the command line -> module of this package that holds COMMAND
COMMANDS = {
    "demo": "demo",
    "data simulate": "data_simulate",
    "config list": "config_list",
    "config show": "config_show",
    "train": "train",
    "evaluate": "evaluate",
    "export": "export",
    "reconstruct": "reconstruct",
    "score": "score",
    "compare": "compare",
    "ablate run": "ablate_run",
    "ablate status": "ablate_status",
    "ablate report": "ablate_report",
    "ablate worker": "ablate_worker",
    "report": "report",
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
            import_module(f"mrirecon.cli.{COMMANDS[name]}").COMMAND(words[n_words:])
            return
    name = " ".join(words[:2]) if words[0] in _families() else words[0]
    if name.startswith("-"):
        raise InputError(f"unknown option '{name}'; a command comes first: {', '.join(COMMANDS)}")
    raise unknown_name("command", name, COMMANDS, "See mrirecon --help.")


def _families() -> set[str]:
    """First words of the commands of two."""
    return {name.split()[0] for name in COMMANDS if " " in name}


def _overview(prefix: str = "") -> str:
    names = [name for name in COMMANDS if name.startswith(prefix)]
    lines = [
        "usage: mrirecon COMMAND [options]",
        "",
        "From undersampled k-space to trained, scored reconstructions.",
        "",
    ]
    lines += [f"  {name:<16} {import_module(f'mrirecon.cli.{COMMANDS[name]}').COMMAND.summary}" for name in names]
    return "\n".join([*lines, "", "mrirecon COMMAND --help shows every option; --version the version."])
