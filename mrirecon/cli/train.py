"""`mrirecon train`."""

from mrirecon.cli.command import Command
from mrirecon.config import TrainConfig


def _run(config: TrainConfig, resume: str = "", given: tuple[str, ...] = ()) -> None:
    from mrirecon.workflows.train import resume_training, train

    run = resume_training(resume, config, given) if resume else train(config)
    print(f"run folder: {run.path}")
    print(f"next:       mrirecon evaluate {run.path} --split val")


COMMAND = Command(
    name="train",
    summary="Train a normalized U-Net on undersampled k-space.",
    config=TrainConfig,
    run=_run,
    extra=(("--resume RUN", "go on with a stopped run, exactly where it was"),),
    epilog=(
        "examples:\n"
        "  mrirecon train --data DIR --norm group --optimizer adam --lr 1e-3 --max-steps 2000\n"
        "  mrirecon train --data DIR --acceleration 4 8\n"
        "  mrirecon train --resume runs/group-adam-20260101-120000"
    ),
)
