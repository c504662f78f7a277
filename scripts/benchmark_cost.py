"""What a training slice costs against image size, coils, channels, number of volumes and processes: `mrirecon train`.

    python scripts/benchmark_cost.py [--figure docs/cost.png]        (about ten minutes)

Each point is the median time per slice of a short training with its defaults, reading and undersampling included, one
thread a process; all but one axis stay at 128 x 128 pixels, 4 coils, 16 channels, 8 volumes, one process. Prints a
Markdown table with the slope of the log-log line of each axis: 1 is linear, below 1 less. Volumes beyond 8 are links to
the same files under other names.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

STEPS = 60


@dataclass(frozen=True)
class Point:
    """A training."""

    side: int = 128
    coils: int = 4
    channels: int = 16
    volumes: int = 8
    processes: int = 1


AXES = {
    "side": ("pixels", (96, 128, 192, 256, 320)),
    "coils": ("coils", (1, 2, 4, 8, 16)),
    "channels": ("channels", (8, 16, 32, 64)),
    "volumes": ("volumes", (8, 64, 512)),
    "processes": ("processes", (1, 2)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    lines: dict[str, tuple[list[int], list[float]]] = {}
    print("| axis | from ... to | ms a slice | slope |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for key, (name, values) in AXES.items():
            at = [value**2 for value in values] if key == "side" else list(values)
            ms = [1e3 * seconds_per_slice(Path(folder), replace(Point(), **{key: value})) for value in values]
            slope = np.polyfit(np.log(at), np.log(ms), 1)[0]
            print(f"| {name} | {listed(at)} | {listed(round(value, 1) for value in ms)} | {slope:.2f} |", flush=True)
            lines[name] = at, ms
    if args.figure:
        draw(lines, args.figure)


def listed(values: Sequence[float] | map) -> str:
    return ", ".join(map(str, values))


def seconds_per_slice(folder: Path, point: Point) -> float:
    """Of all processes together, as the run's curves have it."""
    data = data_of(folder, point)
    out = folder / "run"
    words = ["train", "--data", data, "--channels", point.channels, "--max-steps", STEPS, "--val-every", STEPS]
    mrirecon(*words, "--val-volumes", 1, "--threads", 1, "--devices", point.processes, "-o", out, "--overwrite")
    with (out / "curves.csv").open() as rows:
        rates = [float(row["slices_per_s"]) for row in csv.DictReader(rows) if row["slices_per_s"]]
    return 1 / median(rates[1:])


def data_of(folder: Path, point: Point) -> Path:
    data = folder / f"{point.side}-{point.coils}-{point.volumes}"
    if not data.exists():
        scan = ["--matrix", point.side, point.side, "--coils", point.coils, "--slices", 4, "--oversampling", 1]
        mrirecon("data", "simulate", data, *scan, "--train", Point.volumes, "--val", 1, "--test", 0)
        files = sorted((data / "train").glob("*.h5"))
        for i in range(Point.volumes, point.volumes):
            os.link(files[i % len(files)], data / "train" / f"copy_{i:04d}.h5")
    return data


def mrirecon(*words: object) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mrirecon", *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])


def draw(lines: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(lines), figsize=(3 * len(lines), 2.8), sharey=True, constrained_layout=True)
    for axis, (name, (at, ms)) in zip(axes, lines.items(), strict=True):
        axis.loglog(at, ms, marker=".")
        axis.loglog(at, [ms[0] * value / at[0] for value in at], color="0.7", linestyle="--", label="linear")
        axis.set_xlabel(name)
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("ms a training slice")
    axes[0].legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
