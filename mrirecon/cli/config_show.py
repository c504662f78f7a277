"""`mrirecon config show`."""

from mrirecon import configfile
from mrirecon.cli.command import Command
from mrirecon.config import NoConfig


def _run(_config: NoConfig, name: str) -> None:
    print(configfile.find_config(name).read_text(encoding="utf-8"), end="")


COMMAND = Command(
    name="config show",
    summary="Print a shipped configuration, as an overlay for -c or to start one's own.",
    config=NoConfig,
    run=_run,
    positionals=(("NAME", "a name of `mrirecon config list`, or a file"),),
)
