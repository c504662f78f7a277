"""`mrirecon ablate report`."""

from mrirecon.cli.command import Command
from mrirecon.config import NoConfig


def _run(_config: NoConfig, study: str) -> None:
    from pathlib import Path

    from mrirecon.ablation.publish import write_report

    page = write_report(Path(study))
    print(f"report:     {page}")
    print(f"tables:     {page.parent}/results.csv, timing.csv, results.json")


COMMAND = Command(
    name="ablate report",
    summary="Write the report of what a study has so far: one offline page, tables, figures.",
    config=NoConfig,
    run=_run,
    positionals=(("STUDY", "a study folder, such as ablations/smoke"),),
)
