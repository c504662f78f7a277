"""How long the command line takes to answer where there is nothing, or next to nothing, to compute.

python scripts/benchmark_startup.py [OTHER_CHECKOUT]
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

CALLS = (["--help"], ["train", "--help"], ["train", "--print-config"], ["evaluate", "--help"], ["demo", "--help"])
SMALL_DATA = "data simulate {folder}/data --train 2 --val 2 --test 0 --slices 2 --matrix 64 64 --coils 2"
SMALL_RUN = "train --data {folder}/data --channels 4 --pools 2 --max-steps 2 --output {folder}/run"
SMALL_WORK = {
    "evaluate zero-filled": "evaluate zero-filled --data {folder}/data --output {folder}/out",
    "evaluate RUN": "evaluate {folder}/run --split val --output {folder}/out",
    "reconstruct RUN": "reconstruct {folder}/run {folder}/data/val --output {folder}/images",
}
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
        folders = [f"{folder}/{i}" for i, _ in enumerate(checkouts)]
        for own, checkout in zip(folders, checkouts, strict=True):
            for words in SMALL_DATA, SMALL_RUN:
                command = [sys.executable, "-m", "mrirecon", *words.format(folder=own).split(), "--quiet"]
                subprocess.run(command, cwd=checkout, check=True, capture_output=True)
        for name, words in SMALL_WORK.items():
            _print(name, _run(["-m", "mrirecon", *words.split(), "--overwrite", "--quiet"], checkouts, folders))
    _print("python -c pass", _run(["-c", "pass"], checkouts))
    _print("python -c 'import torch'", _run(["-c", "import torch"], checkouts))


def _run(arguments: list[str], checkouts: list[Path], folders: Sequence[str] = ()) -> list[tuple[float, ...]]:
    """Medians of seconds on the wall and of computing, and largest resident memory in MiB, of each checkout.

    `{folder}` in an argument is the checkout's own of `folders`.
    """
    found: list[list[tuple[float, ...]]] = [[] for _ in checkouts]
    for _ in range(REPEATS):
        for i, (checkout, measured) in enumerate(zip(checkouts, found, strict=True)):
            words = [word.format(folder=folders[i]) for word in arguments] if folders else arguments
            start = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=checkout,  # where Python looks for the package first
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise RuntimeError(f"{words} of {checkout} ended with {os.waitstatus_to_exitcode(status)}")
            seconds = time.perf_counter() - start
            measured.append((seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
    return [tuple(map(median, zip(*measured, strict=True))) for measured in found]


def _print(name: str, found: list[tuple[float, ...]]) -> None:
    figures = (f"{wall:6.2f} s ({computing:.2f} s computing, {peak:.0f} MiB)" for wall, computing, peak in found)
    print(f"{name:<28}", *figures, flush=True)


if __name__ == "__main__":
    main()
