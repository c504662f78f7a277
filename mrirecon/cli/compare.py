"""`mrirecon compare`."""

from mrirecon.cli.command import Command
from mrirecon.config.compare import CompareConfig


def _run(config: CompareConfig, *words: str) -> None:
    from mrirecon.workflows.compare.workflow import compare

    compare(config, words)


COMMAND = Command(
    name="compare",
    summary="Paired statistics of finished runs or evaluation tables over volumes and seeds, a verdict in words.",
    config=CompareConfig,
    run=_run,
    positionals=(
        ("A", "the reference: a run folder, the folder of an evaluation, or its volumes.csv"),
        ("B...", "what is compared with it; runs that differ in their seed alone are taken together"),
    ),
    epilog=(
        "examples:\n"
        "  mrirecon compare runs/adam runs/sgd --split test\n"
        "  mrirecon compare adam-s* sgd-s* --output comparison     (seeds 0, 1, ... of each)\n"
        "  mrirecon compare runs/mine runs/theirs                  (theirs: tables of mrirecon score)"
    ),
)
