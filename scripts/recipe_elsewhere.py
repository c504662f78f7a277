"""The default recipe on data that it was not chosen on: another anatomy, another size, measured files.

    python scripts/recipe_elsewhere.py OUT --head COLIN27.nii.gz --real DIR

Trains the default recipe and the default of before (the preset `adamw_onecycle`) on slices of a measured T1 head and on
simulated heads of 256 x 216 pixels and 6 coils, a few seeds each, one thread, for about the same CPU time (that of
`--steps` of the default; a training of 40 steps tells what one of the other takes). Both are scored on test volumes of
that simulation and on the measured multi-coil files below DIR, with `mrirecon evaluate`, and held against each other by
`mrirecon compare`, seeds and volumes paired. Runs that stand in OUT are not done again. About 25 minutes on one core.
"""

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

RECIPES: dict[str, list[str]] = {"default": [], "before": ["-c", "adamw_onecycle"]}
SCAN = {"train": 24, "val": 4, "test": 8, "slices": 6, "oversampling": 1}
PACED = 40  # steps


def mrirecon(*words: object) -> tuple[str, float]:
    """Run the command on one thread; return what it printed and the CPU seconds it took."""
    command = [sys.executable, "-m", "mrirecon", *map(str, words)]
    before = os.times()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"mrirecon {' '.join(map(str, words))}\n{done.stderr[-2000:]}")
    after = os.times()
    return done.stdout, after.children_user + after.children_system - before.children_user - before.children_system


def train(data: Path, run: Path, recipe: str, steps: int, seed: int = 0) -> float:
    """Train, unless it stands there; return the CPU seconds it took."""
    took = run.with_suffix(".seconds")
    if not took.exists():
        plan = ["--max-steps", steps, "--val-every", steps, "--val-volumes", 1, "--seed", seed]
        words = ["train", "--data", data, *RECIPES[recipe], "--mask", "random", *plan]
        took.write_text(str(mrirecon(*words, "--threads", 1, "-o", run, "--overwrite")[1]))
    return float(took.read_text())


def equal_steps(data: Path, out: Path, steps: int) -> dict[str, int]:
    """Steps of each recipe that take the time of so many of the default, by the second half of a short training."""
    pace = {}
    for recipe in RECIPES:
        run = out / f"pace-{recipe}"
        train(data, run, recipe, PACED)
        with (run / "curves.csv").open() as lines:
            seconds = {int(row["step"]): float(row["seconds"]) for row in csv.DictReader(lines) if row["slices_per_s"]}
        pace[recipe] = (seconds[PACED] - seconds[PACED // 2]) / (PACED - PACED // 2)
    return {recipe: round(steps * pace["default"] / pace[recipe]) for recipe in RECIPES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--head", type=Path, required=True, help="NIfTI volume of a T1 head")
    parser.add_argument("--real", type=Path, required=True, help="folder of measured multi-coil files, fully sampled")
    parser.add_argument("--steps", type=int, default=96, help="of the default recipe")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    shape = [word for key, value in SCAN.items() for word in (f"--{key}", value)]
    simulations = {
        "t1-head": ["--from", args.head, "--matrix", 160, 160, "--coils", 8, "--seed", 11],
        "larger": ["--matrix", 256, 216, "--coils", 6, "--seed", 12],
    }
    for name, scan in simulations.items():
        out = args.out / name
        out.mkdir(parents=True, exist_ok=True)
        data = out / "data"
        if not data.exists():
            mrirecon("data", "simulate", data, *scan, *shape)
        steps = equal_steps(data, out, args.steps)
        runs: dict[str, list[Path]] = {
            recipe: [out / f"{recipe}-{seed}" for seed in range(args.seeds)] for recipe in steps
        }
        for seed in range(args.seeds):
            for recipe in RECIPES:
                seconds = train(data, runs[recipe][seed], recipe, steps[recipe], seed)
                print(f"{name} {recipe} seed {seed}: {steps[recipe]} steps, {seconds:.0f} CPU seconds", flush=True)
        for kind, files, split in (("simulated", data, "test"), ("measured", args.real, "all")):
            if not (out / kind).exists():
                every = [run for of_recipe in runs.values() for run in of_recipe]
                drawn = ["--mask", "random", "--acceleration", 4, "--mask-draws", 4]
                mrirecon("evaluate", *every, "--data", files, "--split", split, *drawn, "-o", out / kind)
            groups = [
                word for recipe in RECIPES for word in ("--group", f"{recipe}={out / kind}/{recipe}-*/volumes.csv")
            ]
            print(f"\n{name}, scored on {kind} volumes, 4x:\n{mrirecon('compare', *groups)[0]}", flush=True)


if __name__ == "__main__":
    main()
