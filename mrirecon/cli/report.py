"""`mrirecon report`."""

from pathlib import Path

from mrirecon.cli.command import Command
from mrirecon.config import NoConfig
from mrirecon.errors import InputError

_STUDY_FILES = ("manifest.json", "ablation.yaml")


def _run(_config: NoConfig, folder: str, output: str = "", **_words: object) -> None:
    path = Path(folder)
    if all((path / name).is_file() for name in _STUDY_FILES):
        if output:
            raise InputError(f"--output {output} is for runs; the report of an ablation stands in its folder")
        from mrirecon.ablation.publish import write_report

        page = write_report(path)
    else:
        from mrirecon.workflows.run_report import run_report

        page = run_report(path, output)
    print(f"report: {page}")


COMMAND = Command(
    name="report",
    summary="Write one offline HTML page of a run or of an ablation.",
    config=NoConfig,
    run=_run,
    positionals=(("RUN|ABLATION", "a run folder, or the folder of an ablation"),),
    extra=(("--output FILE", "the page of a run [RUN/report.html]"),),
    epilog="examples:\n  mrirecon report runs/group-adam-20260101-120000\n  mrirecon report ablations/smoke",
)
