"""How long the command line takes to answer when there is nothing to compute.

python scripts/benchmark_startup.py
"""

import subprocess
import sys
import time
from statistics import median

CALLS = (["--help"], ["train", "--help"], ["train", "--print-config"], ["evaluate", "--help"], ["demo", "--help"])
REPEATS = 7


def main() -> None:
    """Print median seconds per call, a bare interpreter beside them."""
    print(f"{'call':<28} median of {REPEATS}")
    print(f"{'python -c pass':<28} {_seconds('pass'):.2f} s")
    for words in CALLS:
        seconds = _seconds(f"from mrirecon.cli import main; main({words!r})")
        print(f"{'mrirecon ' + ' '.join(words):<28} {seconds:.2f} s (bar: 0.50 s)")


def _seconds(code: str) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    main()
