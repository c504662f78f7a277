"""`mrirecon data simulate` and `mrirecon demo`: commands that need no data."""

import shlex
from dataclasses import replace

from mrirecon.cli.command import Command
from mrirecon.cli.lazy_libraries import import_torchmetrics
from mrirecon.config import DemoConfig, SimulateConfig
from mrirecon.errors import InputError


def _simulate(config: SimulateConfig, output: str = "") -> None:
    folder = output or config.output
    if not folder:
        raise InputError("data simulate needs OUT, the folder to write")
    from mrirecon.workflows.simulate import simulate_dataset

    path = simulate_dataset(replace(config, output=folder))
    print(f"data:  {path}")
    print(f"next:  {shlex.join(['mrirecon', 'train', '--data', str(path)])}")


SIMULATE = Command(
    name="data simulate",
    summary="Write a train/val/test set in the fastMRI layout from phantoms or a real volume.",
    config=SimulateConfig,
    run=_simulate,
    positionals=(("[OUT]", "folder that gets train/ val/ test/ (or --output)"),),
    epilog=(
        "examples:\n"
        "  mrirecon data simulate OUT --matrix 160 160 --coils 12 --snr 25\n"
        "  mrirecon data simulate OUT --from T1.nii.gz"
    ),
)


def _demo(config: DemoConfig) -> None:
    import_torchmetrics()
    from mrirecon.workflows.demo import demo

    demo(config)


DEMO = Command(
    name="demo",
    summary="No data needed: simulate, train, evaluate and draw, in about two minutes on two CPU cores.",
    config=DemoConfig,
    run=_demo,
    epilog="The same steps on your data: mrirecon train --data DIR, then mrirecon evaluate RUN --split test",
)
