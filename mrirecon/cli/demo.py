"""`mrirecon demo`."""

from mrirecon.cli.command import Command
from mrirecon.config import DemoConfig


def _run(config: DemoConfig) -> None:
    from mrirecon.workflows.demo import demo

    demo(config)


COMMAND = Command(
    name="demo",
    summary="No data needed: simulate, train, evaluate and draw, in about two minutes on two CPU cores.",
    config=DemoConfig,
    run=_run,
    epilog="The same steps on your data: mrirecon train --data DIR, then mrirecon evaluate RUN --split test",
)
