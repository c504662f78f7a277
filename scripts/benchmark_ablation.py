"""What a study costs besides its trainings, and whether a worker grows: `python scripts/benchmark_ablation.py`.

204 runs of one optimizer step and one validation in one worker process: seconds per run with everything around the
training (configuration, data, checkpoint, records, scores of test volumes, lease), seconds inside Lightning's fit, and
resident memory after 20 and after 200 runs.
"""

import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytorch_lightning as pl
import yaml

from mrirecon import progress
from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.ablation.work.prepare import prepare
from mrirecon.ablation.work.worker import Worker
from mrirecon.config.ablate import AblateConfig
from mrirecon.data.folders.volume_files import sharing_volumes

GRID = {
    "name": "overhead",
    "factors": {"optimizer": ["momentum", "adam"]},
    "base": {
        "model": {"channels": 8, "norm": "instance", "residual": False},
        "batch_size": 4,
        "max_steps": 1,
        "val_every": 1,
    },
    "seeds": 100,
    "reference": {"optimizer": "adam"},
    "tuning": {"trials": 2, "sweep": 0},
    "simulate": {"train": 4, "val": 2, "test": 5, "slices": 2, "matrix": [96, 96], "coils": 4},
}


def resident() -> float:
    """MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watched(Worker):
    """Notes time and memory after every run."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seconds, self.memory, self.fits = [], [], []

    def _run(self, spec):
        began = time.perf_counter()
        done = super()._run(spec)
        self.seconds.append(time.perf_counter() - began)
        self.memory.append(resident())
        return done


def timed_fit(worker: Watched) -> None:
    fit = pl.Trainer.fit

    def wrapped(self, *arguments, **options):
        began = time.perf_counter()
        try:
            return fit(self, *arguments, **options)
        finally:
            worker.fits.append(time.perf_counter() - began)

    pl.Trainer.fit = wrapped


def main() -> None:
    progress.quiet = True
    with tempfile.TemporaryDirectory() as folder:
        grid = Path(folder) / "overhead.yaml"
        grid.write_text(yaml.safe_dump(GRID))
        study = prepare(str(grid), AblateConfig(output=str(Path(folder) / "study")))
        worker = Watched(StudyFolder(study.folder.path).open())
        timed_fit(worker)
        with sharing_volumes():
            worker.loop()
    for first, last in ((1, 20), (181, 200)):
        runs, fits = worker.seconds[first - 1 : last], worker.fits[first - 1 : last]
        run, fit = sum(runs) / len(runs), sum(fits) / len(fits)
        print(f"runs {first} to {last}: {run:.2f} s per run, {fit:.2f} s in fit, overhead {run - fit:.2f} s")
    after = {n: worker.memory[n - 1] for n in (20, 200)}
    ratio = after[200] / after[20]
    print(f"resident memory: {after[20]:.0f} MB after 20 runs, {after[200]:.0f} MB after 200 ({ratio:.3f}x)")


if __name__ == "__main__":
    main()
