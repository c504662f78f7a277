"""What a training slice costs against image size, coils, channels, number of volumes and processes: `mrirecon train`.

    python scripts/benchmark_cost.py [--figure docs/cost.png]        (about ten minutes)

Each point is the median time per slice of a short training with its defaults, reading and undersampling included, one
thread a process; all but one axis stay at 128 x 128 pixels, 4 coils, 16 channels, 8 volumes, one process. Prints a
Markdown table with the slope of the log-log line of each axis, and the slope of a cost in proportion to the work: 1
for pixels and coils, 2 for channels (products of matrices), 0 for volumes (a slice costs the same in a large data
set), -1 for processes with a core each. Volumes beyond 8 are links to the same files under other names.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
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


AXES = {  # name, values, slope in proportion to the work
    "side": ("pixels", (96, 128, 192, 256, 320), 1),
    "coils": ("coils", (1, 4, 16, 32), 1),
    "channels": ("channels", (8, 16, 32, 64), 2),
    "volumes": ("volumes", (8, 64, 512), 0),
    "processes": ("processes", (1, 2), -1),
}


@dataclass(frozen=True)
class Line:
    """Time per slice along one axis."""

    name: str
    at: list[int]
    ms: list[float]
    proportional: int  # slope of a cost in proportion to the work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    lines: list[Line] = []
    print("| axis | from ... to | ms a slice | slope | in proportion |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for key, (name, values, proportional) in AXES.items():
            at = [value**2 for value in values] if key == "side" else list(values)
            ms = [1e3 * seconds_per_slice(Path(folder), replace(Point(), **{key: value})) for value in values]
            lines.append(Line(name, at, ms, proportional))
            slope = np.polyfit(np.log(at), np.log(ms), 1)[0]
            listed_ms = listed(round(value, 1) for value in ms)
            print(f"| {name} | {listed(at)} | {listed_ms} | {slope:.2f} | {proportional} |", flush=True)
    if args.figure:
        draw(lines, args.figure)


def listed(values: Iterable[float]) -> str:
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


def draw(lines: Sequence[Line], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter, NullLocator

    figure, axes = plt.subplots(1, len(lines), figsize=(3 * len(lines), 2.8), sharey=True, constrained_layout=True)
    for axis, line in zip(axes, lines, strict=True):
        axis.loglog(line.at, line.ms, marker="o", label="measured")
        proportional = [line.ms[0] * (value / line.at[0]) ** line.proportional for value in line.at]
        axis.loglog(line.at, proportional, color="0.6", linestyle="--", label="in proportion to the work")
        axis.set_xticks(line.at, [f"{value:,}" for value in line.at], rotation=30)
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(line.name)
        axis.grid(alpha=0.3)
    axes[0].set_yticks([50, 100, 200, 500, 1000, 2000], ["50", "100", "200", "500", "1000", "2000"])
    axes[0].yaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("ms a training slice")
    axes[-1].legend(fontsize="small", loc="upper right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
