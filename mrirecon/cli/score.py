"""`mrirecon score`."""

from mrirecon.cli.command import Command
from mrirecon.config import ScoreConfig


def _run(config: ScoreConfig, predictions: str, targets: str) -> None:
    from mrirecon.workflows.score import score

    score(config, predictions, targets)


COMMAND = Command(
    name="score",
    summary="Score anyone's reconstructions (fastMRI prediction files) against their references, per volume.",
    config=ScoreConfig,
    run=_run,
    positionals=(
        ("PREDICTIONS", "folder with one .h5 per target, data set `reconstruction` (slices, height, width)"),
        ("TARGETS", "folder of fastMRI .h5 files, flat or in split folders; only their references are read"),
    ),
    epilog=(
        "examples:\n"
        "  mrirecon score PREDICTIONS DIR/val --mask random --acceleration 4\n"
        "  mrirecon score PREDICTIONS DIR/multicoil_val --crop square    (as python -m fastmri.evaluate)"
    ),
)
