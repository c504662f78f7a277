"""Time to quality: fastMRI's U-Net and recipe against `mrirecon train`, side by side on the same simulated slices.

    python scripts/benchmark.py time-to-quality [--coils 1] [--matrix 192 192] [--figure FILE] [keys of mrirecon train]

fastMRI 0.3.0's trainer does not run with today's Lightning, so its recipe is a loop here: its U-Net (32 channels), data
set, transform and random masks (4x, 8 % centre), batch 1, fp32, L1, RMSprop at 0.001 that drops to a tenth after 80 %
of the steps. Ours is the command with its defaults, given a sixth of fastMRI's time and all of it. Both have the same
slices, number of parameters and evaluator: `mrirecon evaluate`, SSIM of volumes as fastMRI has it, fastMRI's masks. One
thread each. Seconds are those of training, with reading and undersampling, without validation; start-up, from the start
of the process to the first batch, is given apart. Runs alternate, one at a time.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from statistics import fmean

import numpy as np

STEPS_OF_FASTMRI = 240
CHECKPOINTS = 12
PACED = 48  # steps that tell what one takes
HELD = 3  # checkpoints in a row that have a quality before it counts as reached
LABELS = ("fastMRI's recipe", "mrirecon, a sixth of its time", "mrirecon, all of its time")
HEAD = (
    "seed | fastMRI: best SSIM, s, start-up | mrirecon there: s, times as fast, with start-up, its start-up | "
    "in a sixth: SSIM, s, minus fastMRI then | in all: SSIM, s, minus fastMRI"
)


@dataclass(frozen=True)
class Training:
    """A training: SSIM on the validation volumes against seconds, and the seconds before the first step."""

    seconds: list[float]
    ssim: list[float]
    start_up: float
    pace: float = nan  # seconds of a step in its second half, when all is warm

    def reaches(self, ssim: float) -> float:
        """Seconds to the first of three checkpoints in a row that have this SSIM; infinite where there are none."""
        reached = (at for i, at in enumerate(self.seconds[: 1 - HELD or None]) if min(self.ssim[i : i + HELD]) >= ssim)
        return next(reached, inf)

    def at(self, seconds: float) -> float:
        """SSIM then, on the line between the checkpoints before and after; not a number before the first."""
        return float(np.interp(seconds, self.seconds, self.ssim, left=nan))


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def mrirecon(*words: object) -> tuple[str, float]:
    """Run the command; return what it prints and the seconds it took."""
    start = time.monotonic()
    command = [sys.executable, "-m", "mrirecon", *map(str, words)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"mrirecon {' '.join(map(str, words))}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr, time.monotonic() - start


def train_as_fastmri(data: str, out: str, seed: int, n_steps: int, is_single: bool) -> None:
    """Train in a process of its own; write the weights and the seconds of each checkpoint."""
    import torch
    from fastmri.data import SliceDataset
    from fastmri.data.subsample import RandomMaskFunc
    from fastmri.data.transforms import UnetDataTransform
    from fastmri.models import Unet
    from torch.nn.functional import l1_loss

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    challenge = "singlecoil" if is_single else "multicoil"
    transform = UnetDataTransform(challenge, mask_func=RandomMaskFunc([0.08], [4], seed=seed), use_seed=False)
    slices = SliceDataset(root=Path(data) / "train", transform=transform, challenge=challenge)
    loader = torch.utils.data.DataLoader(slices, batch_size=1, shuffle=True)
    model = Unet(in_chans=1, out_chans=1, chans=32, num_pool_layers=4)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, round(0.8 * n_steps), 0.1)
    start_up = time.time() - float(os.environ["STARTED"])
    step, seconds, begun = 0, [], time.monotonic()
    while step < n_steps:
        for batch in loader:
            optimizer.zero_grad()
            l1_loss(model(batch.image.unsqueeze(1)).squeeze(1), batch.target).backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % (n_steps // CHECKPOINTS) == 0:
                seconds.append(sum(seconds[-1:]) + time.monotonic() - begun)
                torch.save(model.state_dict(), Path(out) / f"{step}.pt")
                begun = time.monotonic()
            if step == n_steps:
                break
    Path(out, "times.json").write_text(json.dumps({"start_up": start_up, "seconds": seconds}))


def fastmri(data: Path, out: Path, seed: int, n_steps: int, is_single: bool) -> Training:
    """Train and score; what is there already is kept."""
    if not (out / "times.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        call = f"train_as_fastmri({str(data.resolve())!r}, {str(out.resolve())!r}, {seed}, {n_steps}, {is_single})"
        subprocess.run(
            [sys.executable, "-c", f"from {Path(__file__).stem} import train_as_fastmri; {call}"],
            env=environment() | {"STARTED": str(time.time())},
            cwd=Path(__file__).parent,
            check=True,
        )
    weights = [out / f"{n_steps // CHECKPOINTS * (i + 1)}.pt" for i in range(CHECKPOINTS)]
    tables = [out / "scores" / file.stem / "volumes.csv" for file in weights]
    if not all(table.exists() for table in tables):
        volumes = ["--data", data, "--split", "val", "--mask", "random", "--figure-volumes", "val/val_0000.h5"]
        mrirecon(
            "evaluate", *weights, "--model", "unet", *volumes, "--metrics", "ssim", "-o", out / "scores", "--overwrite"
        )
    ssim = [fmean(float(row["ssim"]) for row in csv.DictReader(table.read_text().splitlines())) for table in tables]
    times = json.loads((out / "times.json").read_text())
    return Training(times["seconds"], ssim, times["start_up"])


def ours(data: Path, out: Path, seed: int, n_steps: int, options: list[str]) -> Training:
    """`mrirecon train`; its seconds of training are those of the slices per second that it notes each ten steps."""
    if not (out / "wall").exists():
        plan = ["--max-steps", n_steps, "--val-every", max(1, n_steps // CHECKPOINTS), "--seed", seed]
        words = ["train", "--data", data, "--mask", "random", *plan, "--threads", 1, "-o", out, "--overwrite", *options]
        printed, wall = mrirecon(*words)
        (out / "printed").write_text(printed)
        (out / "wall").write_text(str(wall))
    batch = int(re.findall(r"plan +\d+ steps x (\d+) slice", (out / "printed").read_text())[0])
    rows = list(csv.DictReader((out / "curves.csv").read_text().splitlines()))
    ends, spent = [0], [0.0]
    for row in rows:
        if row["slices_per_s"]:
            ends.append(int(row["step"]))
            spent.append(spent[-1] + (ends[-1] - ends[-2]) * batch / float(row["slices_per_s"]))
    half = len(ends) // 2
    pace = (spent[-1] - spent[half]) / (ends[-1] - ends[half])
    validations = [row for row in rows if row["val_ssim"]]
    seconds = [float(np.interp(int(row["step"]), ends, spent)) for row in validations]
    start_up = float((out / "wall").read_text()) - float(rows[-1]["seconds"])
    return Training(seconds, [float(row["val_ssim"]) for row in validations], start_up, pace)


def compare(data: Path, out: Path, seed: int, args: argparse.Namespace, options: list[str]) -> list[Training]:
    """One seed: fastMRI, ours in a sixth of its time, ours in all of it."""
    theirs = fastmri(data, out / f"fastmri-{seed}", seed, args.steps, args.coils == 1)
    paced = ours(data, out / f"pace-{seed}", seed, PACED, options)
    left = (share * theirs.seconds[-1] - paced.seconds[-1] for share in (1 / 6, 1.0))
    steps = [max(CHECKPOINTS, PACED + int(more / paced.pace)) for more in left]
    return [theirs, *(ours(data, out / f"{n}-steps-{seed}", seed, n, options) for n in steps)]


def row_of(seed: int, theirs: Training, sixth: Training, whole: Training) -> str:
    best = max(theirs.ssim)
    reached = min(sixth.reaches(best), whole.reaches(best))
    begun = (theirs.seconds[-1] + theirs.start_up) / (reached + sixth.start_up)
    return (
        f"{seed} | {best:.4f} {theirs.seconds[-1]:.1f} {theirs.start_up:.1f} | {reached:.1f} "
        f"{theirs.seconds[-1] / reached:.2f}x {begun:.2f}x {sixth.start_up:.1f} | "
        f"{sixth.ssim[-1]:.4f} {sixth.seconds[-1]:.1f} {sixth.ssim[-1] - theirs.at(sixth.seconds[-1]):+.4f} | "
        f"{whole.ssim[-1]:.4f} {whole.seconds[-1]:.1f} {whole.ssim[-1] - theirs.ssim[-1]:+.4f}"
    )


def draw(found: dict[int, list[Training]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.5, 3.8), constrained_layout=True)
    for seed, runs in found.items():
        for run, color, label in zip(runs, ("#6e6e6e", "#D55E00", "#0072B2"), LABELS, strict=True):
            axis.plot(run.seconds, run.ssim, color=color, marker=".", label=label if seed == min(found) else None)
    axis.set(xlabel="seconds of training, one thread", ylabel="SSIM of validation volumes", xscale="log")
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("time-to-quality"), help="what stands there is not done again")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--coils", type=int, default=8, help="1: single-coil")
    parser.add_argument("--matrix", type=int, nargs=2, default=[160, 160])
    parser.add_argument("--volumes", type=int, nargs=2, default=[40, 8], help="of 6 slices, to train and to validate")
    parser.add_argument("--steps", type=int, default=STEPS_OF_FASTMRI, help="of fastMRI's recipe")
    parser.add_argument("--figure", type=Path)
    args, options = parser.parse_known_args(arguments)  # what is left goes to `mrirecon train`
    out = args.out / f"{args.coils}-coils-{args.matrix[0]}x{args.matrix[1]}"
    data = out / "data"
    if not data.exists():
        volumes = ["--train", args.volumes[0], "--val", args.volumes[1], "--test", 1, "--slices", 6]
        scan = ["--matrix", *args.matrix, "--coils", args.coils, "--oversampling", 1, "--seed", 7]
        mrirecon("data", "simulate", data, *scan, *volumes)
    print(HEAD)
    found = {}
    for seed in args.seeds:
        found[seed] = compare(data, out, seed, args, options)
        print(row_of(seed, *found[seed]), flush=True)
    draw(found, args.figure or out / "curves.png")


if __name__ == "__main__":
    main()
