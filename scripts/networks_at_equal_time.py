"""A U-Net, a U-Net with data consistency and a variational network, each trained for the same CPU time, then one table.

`python scripts/networks_at_equal_time.py OUT [--minutes 20] [--real DIR]` simulates multi-coil heads (160 x 160,
8 coils, 4x random), gives each network a short training with each of a few optimizers (SSIM loss for all), trains the
one that ended best on the validation volumes for `--minutes` of CPU time on one thread, scores all beside zero-filled,
SENSE and total variation on test volumes (and on `--real`), and draws validation SSIM against minutes. A step of one
network always costs about the same, so CPU time is given out as steps, at the pace of that network's short training;
what a training really took is printed. As many trainings run side by side as there are networks, so that other
programs slow all alike; trainings that stand in OUT are not done again.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NETWORKS = {  # called by the second word
    words.split()[1]: words.split()
    for words in (
        "--model unet --schedule auto",
        "--model unet_dc --schedule auto",
        "-c varnet_small --schedule auto",
    )
}
METHODS = {  # tried in the short trainings
    words: ["--optimizer", *words.split()]
    for words in ("adam --lr 1e-3", "adamw --lr 2e-3", "rmsprop --lr 1e-3", "muon --lr 8e-3")
}
BESIDE = "zero-filled sense tv"


def mrirecon(*arguments, log=None):
    """Runs the program on one thread; returns the CPU minutes it took."""
    command = [sys.executable, "-m", "mrirecon", *map(str, arguments)]
    with Path(log or os.devnull).open("a") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}; see {log}")
    return (usage.ru_utime + usage.ru_stime) / 60


def train(out, name, network, method, steps, validations, data):
    """Trains one, unless it stands there; returns (validation curve as (step, SSIM, object SSIM), CPU minutes)."""
    run, took = out / name, out / f"{name}.minutes"
    if not took.exists():
        minutes = mrirecon(
            *("train", "--data", data, *NETWORKS[network], *METHODS[method], "--loss", "ssim", "--batch-size", 1),
            *("--acceleration", 4, "--mask", "random"),
            *("--max-steps", steps, "--val-every", max(1, steps // validations)),
            *("--val-volumes", 4, "--threads", 1, "--logger", "none", "-o", run, "--overwrite"),
            log=out / f"{name}.log",
        )
        took.write_text(str(minutes))
    with (run / "curves.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["val_ssim"]]
    return [(int(r["step"]), float(r["val_ssim"]), float(r["val_ssim_object"])) for r in rows], float(took.read_text())


def steps_in(minutes, short, further):
    """Steps that fit into CPU minutes at the pace of two trainings, each (steps, CPU minutes), apart from start-up."""
    pace = (further[1] - short[1]) / (further[0] - short[0])
    return round(5 + (minutes - short[1]) / pace)


def choose(out, data, minutes, pool, trials):
    """The method with which each network scored best after `minutes`, and the steps and minutes of that training."""

    def one(trial):
        network, method = trial
        name = f"{network}-{method.replace(' ', '')}"
        short, paced = ((n, train(out, f"pace-{name}-{n}", network, method, n, 1, data)[1]) for n in (5, 30))
        curve, took = train(out, f"try-{name}", network, method, steps_in(minutes, short, paced), 1, data)
        return curve[-1], took, short

    found = dict(zip(trials, pool.map(one, trials), strict=True))
    for (network, method), ((steps, ssim, _), took, _) in found.items():
        print(f"{network:14} {method:14} {steps} steps, {took:.1f} minutes: validation SSIM {ssim:.4f}", flush=True)
    best = {n: max(METHODS, key=lambda method: found[n, method][0][1]) for n, _ in trials}
    return {
        n: (method, found[n, method][2], (found[n, method][0][0], found[n, method][1])) for n, method in best.items()
    }


def draw(curves, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    for network, (curve, minutes) in curves.items():
        at = [step * minutes / curve[-1][0] for step, *_ in curve]
        for axis, column in zip(axes, (1, 2), strict=True):
            axis.plot(at, [point[column] for point in curve], marker=".", label=network)
    for axis, label in zip(axes, ("validation SSIM", "validation SSIM of the object"), strict=True):
        axis.set(xlabel="CPU minutes on one thread", ylabel=label)
        axis.grid(alpha=0.3)
    axes[1].legend()
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for data, runs, table and figure; its data are used again")
    parser.add_argument("--minutes", type=float, default=20, help="CPU minutes of each training (20)")
    parser.add_argument("--try-minutes", type=float, default=1.5, help="CPU minutes of each short training (1.5)")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="which (all)")
    parser.add_argument("--real", type=Path, help="folder of measured multi-coil files, scored as well")
    parser.add_argument("--figure", type=Path, help="where to draw the curves (OUT/curves.png)")
    args = parser.parse_args()
    out, data, start = args.out, args.out / "data", time.time()
    out.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        mrirecon("data", "simulate", data, "--matrix", 160, 160, "--coils", 8, "--oversampling", 1, "--seed", 5,
                 "--train", 60, "--val", 10, "--test", 20, log=out / "data.log")  # fmt: skip
    with ThreadPoolExecutor(len(args.networks)) as pool:
        trials = [(network, method) for method in METHODS for network in args.networks]
        chosen = choose(out, data, args.try_minutes, pool, trials)
        trained = pool.map(
            lambda n: train(out, n, n, chosen[n][0], steps_in(args.minutes, *chosen[n][1:]), 12, data), args.networks
        )
        curves = dict(zip(args.networks, trained, strict=True))
    for network, (curve, minutes) in curves.items():
        print(f"{network}: {chosen[network][0]}, {curve[-1][0]} steps, {minutes:.1f} CPU minutes")
        for step, ssim, of_object in curve:  # minutes: SSIM of the image, of the object
            print(f"  {step * minutes / curve[-1][0]:5.1f}: {ssim:.4f}, {of_object:.4f}")
    draw(curves, args.figure or out / "curves.png")
    names, log = [*BESIDE.split(), *(out / n for n in args.networks)], out / "table.txt"
    log.unlink(missing_ok=True)
    call = ["evaluate", *names, "--mask", "random", "--threads", 1, "--overwrite"]
    mrirecon(*call, "--data", data, "--split", "test", "--acceleration", 4, "-o", out / "test", log=log)
    if args.real:
        drawn = ["--acceleration", 2, 4, "--mask-draws", 10, "--method.lambda", 0.002]
        mrirecon(*call, "--data", args.real, "--split", "all", *drawn, "-o", out / "real", log=log)
    print(log.read_text())
    print(f"all in {(time.time() - start) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
