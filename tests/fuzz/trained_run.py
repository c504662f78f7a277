"""A tiny training that was stopped on its way, and the same one uninterrupted: what mutated checkpoints belong to."""

import atexit
import shutil
import signal
import tempfile
from functools import cache
from pathlib import Path

from specimens import SPECIMENS
from warm import run_and_import

N_STEPS, STOPPED_AT = 5, 3


@cache
def trained() -> Path:
    """Folder with `data`, `sound.h5`, the run `stopped` after 3 of 5 steps, and the run `whole`."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("train/a", "train/b", "val/c"):
        path = folder / "data" / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        SPECIMENS["multi-coil"](path)
    SPECIMENS["masked"](folder / "sound.h5")
    for name, code in (("whole", 0), ("stopped", 75)):
        ended = run_and_import(lambda name=name: _train(folder, name), folder / f"log-{name}")
        if ended.code != code:
            raise RuntimeError(f"the training of the fuzzer's run failed: {ended}")
    return folder


def training_words(folder: Path) -> list[str]:
    """A training of seconds on the data of `folder`."""
    steps = f"--max-steps {N_STEPS} --val-every 2 --checkpoint-every 1"
    words = f"{steps} --channels 4 --pools 1 --batch-size 1 --lr 1e-2 --precision fp32 --threads 1 --quiet"
    words += " --model.residual false"  # which fastMRI's network is
    return ["train", "--data", str(folder / "data"), *words.split()]


def _train(folder: Path, name: str) -> int:
    from mrirecon.cli import main
    from mrirecon.training.module import ReconModule

    original = ReconModule.on_train_batch_start

    def stopping(self, batch, batch_idx):
        if name == "stopped" and batch_idx == STOPPED_AT - 1:
            signal.raise_signal(signal.SIGTERM)
        return original(self, batch, batch_idx)

    ReconModule.on_train_batch_start = stopping
    return main([*training_words(folder), "--device", "cpu", "-o", str(folder / name)])
