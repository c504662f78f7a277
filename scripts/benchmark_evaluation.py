"""Speed of the metrics beside fastMRI's, and memory of `evaluate` over the number of volumes.

python scripts/benchmark_evaluation.py
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

THREADS = 2
_REPEATS = 9


def metrics_speed() -> dict[str, float]:
    """Seconds for the metrics of a 16 x 320 x 320 float32 volume, taken in turns, and their ratio."""
    import torch
    from fastmri import evaluate as reference

    from mrirecon.evaluation import combine_slices, nmse, psnr, score_slice, ssim

    torch.set_num_threads(THREADS)
    rng = np.random.default_rng(0)
    target = rng.random((16, 320, 320), dtype=np.float32)
    image = target + 0.1 * rng.standard_normal(target.shape, dtype=np.float32)
    span = float(target.max())
    slices = [torch.from_numpy(x) for x in (target, image)]

    def scored(metrics: list[str]) -> object:
        return combine_slices([score_slice(x, y, span, metrics) for x, y in zip(*slices, strict=True)], span)

    times = _alternate(
        {
            "fastmri": lambda: [f(target, image) for f in (reference.ssim, reference.psnr, reference.nmse)],
            "three functions": lambda: (
                ssim(target, image, span),
                psnr(target, image, span),
                nmse(target, image),
            ),
            "one pass": lambda: scored(["ssim", "psnr", "nmse"]),
            "one pass, with object SSIM by the rule": lambda: scored(["ssim", "ssim_object", "psnr", "nmse"]),
            "one pass, with HFEN": lambda: scored(["ssim", "psnr", "nmse", "hfen"]),
        }
    )
    return times | {
        "ratio of three functions": times["fastmri"] / times["three functions"],
        "ratio of one pass": times["fastmri"] / times["one pass"],
    }


def memory(n_volumes: int) -> dict[str, float]:
    """Peak resident MiB of a process that evaluates zero-filled on `n_volumes` volumes of 8 x 4 x 320 x 320."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", folder, str(n_volumes)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
        _write(Path(folder) / "data" / "val", n_volumes)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print both tables."""
    print(f"metrics of a 16 x 320 x 320 volume, {THREADS} threads, median of {_REPEATS}")
    for name, value in metrics_speed().items():
        print(f"  {name:<40} {value:.2f}x" if name.startswith("ratio") else f"  {name:<40} {1000 * value:.1f} ms")
    print("peak memory of `evaluate zero-filled`, volumes of 8 slices, 4 coils, 320 x 320")
    for n in (4, 40):
        measured = memory(n)
        print(f"  {n:>3} volumes {measured['peak_mib']:>8.0f} MiB   {measured['seconds']:.1f} s")


def _alternate(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, measured in turns so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(_REPEATS + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if repeat:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def _write(folder: Path, n_volumes: int) -> None:
    """One file written, the others links to it."""
    from mrirecon.data.hdf5.write import write_volume
    from mrirecon.data.header import Header

    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal((8, 4, 320, 320, 2)) @ np.array([1, 1j])).astype(np.complex64)
    shape, fov = (320, 320, 1), (220.0, 220.0, 5.0)
    reference = rng.random((8, 320, 320), dtype=np.float32)
    write_volume(
        folder / "v000.h5",
        kspace=kspace,
        header=Header(shape, shape, fov, fov, (0, 160, 319)),
        acquisition="AXT2",
        patient_id="p",
        origin="simulated-from-phantom",
        datasets={"reconstruction_rss": reference},
    )
    for i in range(1, n_volumes):
        (folder / f"v{i:03d}.h5").hardlink_to(folder / "v000.h5")


def _child(folder: str, n_volumes: str) -> None:
    from mrirecon import progress
    from mrirecon.config import DataConfig, EvaluateConfig
    from mrirecon.workflows.evaluate import evaluate

    progress.quiet = True
    config = EvaluateConfig(data=DataConfig(path=f"{folder}/data"), output=f"{folder}/out", threads=THREADS)
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        evaluate(config, "zero-filled")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"n_volumes": int(n_volumes), "peak_mib": peak, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:])
    else:
        main()
