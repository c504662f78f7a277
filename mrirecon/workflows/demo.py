"""The whole job on built-in data: simulate, train, evaluate, draw."""

import shutil
import sys
import time
from pathlib import Path

from mrirecon import progress
from mrirecon.config import (
    DataConfig,
    DemoConfig,
    EvaluateConfig,
    ModelConfig,
    SimulateConfig,
    TrainConfig,
)
from mrirecon.configfile import require_ranges
from mrirecon.errors import InputError
from mrirecon.reconstruct import ZeroFilled
from mrirecon.runs import RunFolder
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.simulate import simulate_dataset
from mrirecon.workflows.train import train

_MARKER = "mrirecon-demo.txt"
_SLICES = [3, 3]  # of 6, the middle one of each volume: total variation of all would be half of the demo
_BESIDE = "tv"  # and the zero-filled image
_LAMBDA = 1e-3  # what `mrirecon evaluate tv` chooses on val volumes of this simulation


def demo(config: DemoConfig) -> RunFolder:
    """Simulate, train, evaluate on unseen anatomies beside what needs no training, and print the table.

    Raises:
        InputError: The output folder holds something else.
    """
    require_ranges(config)
    start = time.monotonic()
    folder = _fresh(Path(config.output), config.overwrite)
    _say("1/3  simulating k-space of random heads")
    data = simulate_dataset(
        SimulateConfig(output=str(folder / "data"), train=config.train, val=4, test=config.test, seed=config.seed)
    )
    _say("2/3  training a U-Net on 4x undersampled k-space")
    run = train(
        TrainConfig(
            data=DataConfig(path=str(data)),
            model=ModelConfig(channels=16),
            batch_size=2,
            max_steps=config.max_steps,
            val_every=max(1, config.max_steps // 2),
            val_volumes=2,
            seed=config.seed,
            output=str(folder / "unet"),
        )
    )
    _say("3/3  scoring volumes of heads it has never seen, beside total variation")
    scoring = EvaluateConfig(
        data=DataConfig(path=str(data), slices=_SLICES),
        method={"lambda": _LAMBDA},
        split="test",
        output=str(folder / "evaluation"),
    )
    (tables,) = evaluate(scoring, ZeroFilled.name, _BESIDE, str(run.path))
    picture = folder / "reconstruction.png"
    shutil.copyfile(sorted((tables / "figures").glob("*.png"))[0], picture)
    print(f"picture:    {picture}")
    print(f"tables:     {folder / 'evaluation'}")
    print(f"run folder: {run.path}")
    print(f"done in {time.monotonic() - start:.0f} s. The same on your data: mrirecon train --data DIR")
    return run


def _fresh(folder: Path, overwrite: bool) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not overwrite:
            raise InputError(f"{folder} is there already; add --overwrite or choose another --output")
        if not (folder / _MARKER).is_file():
            raise InputError(f"{folder} was not made by mrirecon demo; it is not overwritten: choose another --output")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_text("Made by `mrirecon demo`; safe to delete.\n")
    return folder


def _say(line: str) -> None:
    if not progress.quiet:
        print(line, file=sys.stderr, flush=True)
