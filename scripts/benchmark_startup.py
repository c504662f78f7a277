"""How long the command line takes to answer where there is nothing, or next to nothing, to compute.

python scripts/benchmark_startup.py [OTHER_CHECKOUT]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

CALLS = (["--help"], ["train", "--help"], ["train", "--print-config"], ["evaluate", "--help"], ["demo", "--help"])
REPEATS = 7
HERE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print median seconds per call, a bare interpreter beside them; then those of small work, and its memory.

    With another checkout, its figures stand beside those of this one: calls take turns.
    """
    checkouts = [HERE, *(Path(word).resolve() for word in sys.argv[1:])]
    print(f"{f'median of {REPEATS}':<28}", *checkouts)
    for words in CALLS:  # at most 0.50 s
        _print(
            f"mrirecon {' '.join(words)}", _run(["-c", f"from mrirecon.cli import main; main({words!r})"], checkouts)
        )
    with tempfile.TemporaryDirectory() as folder:  # at most 3 s
        for name, words in _small_work(folder).items():
            _print(name, _run(["-m", "mrirecon", *words], checkouts))
    _print("python -c pass", _run(["-c", "pass"], checkouts))
    _print("python -c 'import torch'", _run(["-c", "import torch"], checkouts))


def _small_work(folder: str) -> dict[str, list[str]]:
    """Calls on simulated data of four slices, and on a network that was trained for two steps."""
    data, run, out = (f"{folder}/{name}" for name in ("data", "run", "out"))
    small = ["--train", "2", "--val", "2", "--test", "0", "--slices", "2", "--matrix", "64", "64", "--coils", "2"]
    _mrirecon("data", "simulate", data, *small)
    _mrirecon("train", "--data", data, "--channels", "4", "--pools", "2", "--max-steps", "2", "--output", run)
    again = ["--output", out, "--overwrite", "--quiet"]
    return {
        "evaluate zero-filled": ["evaluate", "zero-filled", "--data", data, *again],
        "evaluate RUN": ["evaluate", run, "--split", "val", *again],
        "reconstruct RUN": [
            "reconstruct",
            run,
            f"{data}/val",
            "--output",
            f"{folder}/images",
            "--overwrite",
            "--quiet",
        ],
    }


def _mrirecon(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "mrirecon", *words, "--quiet"], cwd=HERE, check=True, capture_output=True)


def _run(arguments: list[str], checkouts: list[Path]) -> list[tuple[float, ...]]:
    """Medians of seconds on the wall and of computing, and largest resident memory in MiB, of each checkout."""
    found: dict[Path, list[tuple[float, ...]]] = {checkout: [] for checkout in checkouts}
    for _ in range(REPEATS):
        for checkout, measured in found.items():
            start = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=checkout,  # where Python looks for the package first
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise RuntimeError(f"{arguments} of {checkout} ended with {os.waitstatus_to_exitcode(status)}")
            seconds = time.perf_counter() - start
            measured.append((seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
    return [tuple(map(median, zip(*measured, strict=True))) for measured in found.values()]


def _print(name: str, found: list[tuple[float, ...]]) -> None:
    figures = (f"{wall:6.2f} s ({computing:.2f} s computing, {peak:.0f} MiB)" for wall, computing, peak in found)
    print(f"{name:<28}", *figures, flush=True)


if __name__ == "__main__":
    main()
