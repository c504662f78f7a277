"""Does bf16 training end where fp32 training ends? Mean final SSIM of three seeds each, on simulated heads.

python scripts/benchmark_precision.py            (a few minutes; not part of CI)

300 steps of the default recipe, U-Net with 16 channels, 128 x 128, one thread. Prints "not applicable" where
the hardware has no bf16.
"""

import csv
import tempfile
from pathlib import Path
from statistics import mean

from mrirecon import progress
from mrirecon.config import DataConfig, ModelConfig, SimulateConfig, TrainConfig
from mrirecon.models import auto_precision
from mrirecon.workflows.simulate import simulate_dataset
from mrirecon.workflows.train import train

SEEDS = (0, 1, 2)
STEPS = 300
LIMIT = 0.002


def final_ssim(data: Path, folder: Path, precision: str, seed: int) -> float:
    """Validation SSIM after the last step."""
    config = TrainConfig(
        data=DataConfig(path=str(data)),
        model=ModelConfig(channels=16),
        max_steps=STEPS,
        val_every=STEPS,
        precision=precision,
        seed=seed,
        device="cpu",
        threads=1,
        output=str(folder / f"{precision}-{seed}"),
    )
    with train(config).curves.open() as handle:
        return [float(row["val_ssim"]) for row in csv.DictReader(handle) if row["val_ssim"]][-1]


def main() -> None:
    """Print both means and their difference."""
    if auto_precision("cpu") != "bf16-mixed":
        print("bf16 against fp32 training: not applicable (this CPU has no bf16)")
        return
    progress.quiet = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = simulate_dataset(SimulateConfig(output=str(folder / "data"), train=24, val=6, test=0))
        scores = {p: [final_ssim(data, folder, p, seed) for seed in SEEDS] for p in ("fp32", "auto")}
    for precision, values in scores.items():
        print(f"{precision:<5} final SSIM {mean(values):.4f}   seeds " + " ".join(f"{v:.4f}" for v in values))
    difference = mean(scores["auto"]) - mean(scores["fp32"])
    print(f"auto - fp32: {difference:+.4f} (bar: within {LIMIT})")


if __name__ == "__main__":
    main()
