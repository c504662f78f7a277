"""How long a training takes to have its data checked, by number of volumes, first without and then with what is known.

python scripts/benchmark_volumes.py [--volumes 100 500 2000 10000] [--processes 1 2]

Prints a Markdown table: seconds from the start of the command to the line of its plan, which follows the check of all
files, seconds of computing, and the largest resident memory of a process. Imports are in every figure: those of two
volumes, in the first row, are little else. The files are copies of one (2 slices, 2 coils, 16 x 16), nine of ten for
training.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SMALL_DATA = "data simulate {} --train 1 --val 1 --test 0 --slices 2 --matrix 16 16 --coils 2 --quiet"
SMALL_RUN = "train --data {} --output {} --channels 2 --pools 1 --max-steps 100 --device cpu --devices {} --overwrite"


class Start(NamedTuple):
    """What one start took."""

    wall_s: float
    cpu_s: float  # of all processes, with what they do until they have stopped
    memory_mib: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--volumes", type=int, nargs="+", default=[100, 500, 2000, 10_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    print("| volumes | processes | cold, s (of computing) | warm, s (of computing) | memory cold / warm, MiB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        base = Path(folder, "2")
        subprocess.run(
            [sys.executable, "-m", "mrirecon", *SMALL_DATA.format(base).split()], check=True, capture_output=True
        )
        for n in (2, *given.volumes):
            data = Path(folder, str(n))
            copy(base, data, n)
            for processes in given.processes:
                shutil.rmtree(f"{folder}/cache", ignore_errors=True)
                cold, warm = (start(data, Path(folder, "run"), processes) for _ in range(2))
                seconds = " | ".join(f"{took.wall_s:.1f} ({took.cpu_s:.1f})" for took in (cold, warm))
                print(f"| {n} | {processes} | {seconds} | {cold.memory_mib:.0f} / {warm.memory_mib:.0f} |", flush=True)


def copy(base: Path, data: Path, n: int) -> None:
    """Fill `data` with `n` copies of the files of `base`, a tenth of them for validation; back-date them."""
    before = time.time() - 60  # what has changed just now is checked anew
    for split, count in (("train", n - max(1, n // 10)), ("val", max(1, n // 10))):
        (data / split).mkdir(parents=True, exist_ok=True)
        (source,) = list((base / split).glob("*.h5"))[:1]
        for i in range(count):
            to = data / split / f"file{i:05}.h5"
            if to != source:
                shutil.copyfile(source, to)
                os.utime(to, (before, before))
    time.sleep(3)


def start(data: Path, run: Path, processes: int) -> Start:
    """Start a training; ask it to stop as soon as it has said its plan."""
    words = SMALL_RUN.format(data, run, processes).split()
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mrirecon", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("plan"):
            break
    else:
        raise SystemExit(f"the training said no plan: {''.join(said)}")
    wall = time.perf_counter() - began
    process.terminate()
    process.stderr.read()
    _, _, used = os.wait4(process.pid, 0)
    return Start(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
