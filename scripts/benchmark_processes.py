"""The same evaluation on 1, 2, 3 and 4 processes: are the tables equal, how long is the loop, how much memory is used?

Each process computes with one thread; the time is that of the evaluation loop of the slowest process, without start-up.
"""

import argparse
import csv
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--matrix", type=int, default=160)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--repeats", type=int, default=3, help="measure so often in turn; the fastest loop counts")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_data(root / "data", args.volumes, args.matrix)
        words = ["--channels", str(args.channels), "--max-steps", "2", "--norm", "batch", "--threads", "1"]
        mrirecon("train", "--data", str(root / "data"), *words, "-o", str(root / "run"), "--quiet")
        rounds = [[measure(root, n, i) for n in args.processes] for i in range(args.repeats)]
        show([min(of_n, key=slowest) for of_n in zip(*rounds, strict=True)])


def make_data(data: Path, n_volumes: int, matrix: int) -> None:
    """Simulated volumes of 3 to 12 slices: long and short ones, as in a clinic."""
    sizes = ["--matrix", str(matrix), str(matrix), "--coils", "4", "--quiet"]
    mrirecon("data", "simulate", str(data), "--train", "1", "--val", "1", "--test", "0", "--slices", "2", *sizes)
    rng = np.random.default_rng(0)
    for i in range(n_volumes):
        one = data.with_name(f"volume{i}")
        words = ["--train", "0", "--val", "1", "--test", "0", "--slices", str(rng.integers(3, 13)), "--seed", str(i)]
        mrirecon("data", "simulate", str(one), *words, *sizes)
        (data / "test").mkdir(exist_ok=True)
        next((one / "val").glob("*.h5")).rename(data / "test" / f"volume{i}.h5")


def measure(root: Path, n: int, i: int) -> dict:
    out = root / f"of{n}-{i}"
    words = ["--split", "test", "--devices", str(n), "--threads", "1", "-o", str(out), "--quiet"]
    mrirecon("evaluate", str(root / "run"), *words)
    with (out / "volumes.csv").open() as handle:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(handle)]
    processes = json.loads((out / "summary.json").read_text())["processes"]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]
    ssim = np.mean([float(row["ssim"]) for row in rows])
    return {"n": n, "ssim": ssim, "table": digest, "volumes": len(rows), "processes": processes}


def slowest(result: dict) -> float:
    return max(process["seconds"] for process in result["processes"])


def show(results: list[dict]) -> None:
    alone = slowest(results[0])
    print(
        "| processes | volumes | mean SSIM | table, no seconds | loop, s | ratio | busiest / mean | peak MiB of each |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for result in results:
        processes = result["processes"]
        seconds, slices = slowest(result), [p["slices"] for p in processes]
        memory = " ".join(f"{p['peak_mib']:.0f}" for p in processes)
        print(
            f"| {result['n']} | {result['volumes']} | {result['ssim']:.9f} | {result['table']} | {seconds:.1f} "
            f"| {seconds / alone:.2f}x | {max(slices) / np.mean(slices):.3f} | {memory} |"
        )


def mrirecon(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "mrirecon", *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
