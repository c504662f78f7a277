"""`mrirecon ablate status`."""

import time

from mrirecon.cli.command import Command
from mrirecon.config.ablate import StudyConfig

_EVERY_S = 5.0


def _run(config: StudyConfig, study: str) -> None:
    from pathlib import Path

    from mrirecon.ablation.study.folder import StudyFolder
    from mrirecon.ablation.work.status import count, status_table

    opened = StudyFolder(Path(study)).open()
    print(status_table(opened), flush=True)
    while config.watch and not count(opened).is_complete:
        time.sleep(_EVERY_S)
        print(f"\033[H\033[J{status_table(opened)}", flush=True)


COMMAND = Command(
    name="ablate status",
    summary="Show how far a study is: done, running, failed, waiting, time left.",
    config=StudyConfig,
    run=_run,
    positionals=(("STUDY", "a study folder, such as ablations/smoke"),),
)
