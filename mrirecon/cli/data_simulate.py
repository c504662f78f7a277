"""`mrirecon data simulate`."""

import shlex
from dataclasses import replace

from mrirecon.cli.command import Command
from mrirecon.config import SimulateConfig
from mrirecon.errors import InputError


def _run(config: SimulateConfig, output: str = "") -> None:
    folder = output or config.output
    if not folder:
        raise InputError("data simulate needs OUT, the folder to write")
    from mrirecon.workflows.simulate import simulate_dataset

    path = simulate_dataset(replace(config, output=folder))
    print(f"data:  {path}")
    print(f"next:  {shlex.join(['mrirecon', 'train', '--data', str(path)])}")


COMMAND = Command(
    name="data simulate",
    summary="Write a train/val/test set in the fastMRI layout from phantoms or a real volume.",
    config=SimulateConfig,
    run=_run,
    positionals=(("[OUT]", "folder that gets train/ val/ test/ (or --output)"),),
    epilog=(
        "examples:\n"
        "  mrirecon data simulate OUT --matrix 160 160 --coils 12 --snr 25\n"
        "  mrirecon data simulate OUT --from T1.nii.gz"
    ),
)
