"""How long the command line takes to answer where there is nothing, or next to nothing, to compute.

python scripts/benchmark_startup.py [OTHER_CHECKOUT]
"""

import os
import shutil
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
N_VOLUMES = 300
TRAINING_DATA = "data simulate {folder} --train 1 --val 1 --test 0 --slices 4 --matrix 128 128 --coils 8 --quiet"
TRAINING = "train --data {folder}/training --output {folder}/first --max-steps 1 --overwrite"
HERE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print median seconds per call, a bare interpreter beside them; then those of small work, and its memory.

    Last comes a training over 300 volumes (4 slices, 8 coils, 128 x 128) from the start of the process until its first
    step is in curves.csv: where its files were checked before, and where nothing is known of them.

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
    with tempfile.TemporaryDirectory() as folder:  # at most 6 s where the files are known
        folders = [f"{folder}/{i}" for i, _ in enumerate(checkouts)]
        for own in folders:
            _make_volumes(Path(own))
        for name, is_known in (("first step, files known", True), ("first step, files new", False)):
            found = [
                [_first_step(own, checkout, is_known) for own, checkout in zip(folders, checkouts, strict=True)]
                for _ in range(REPEATS)
            ]
            _print(name, [tuple(map(median, zip(*of_one, strict=True))) for of_one in zip(*found, strict=True)])
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


def _make_volumes(folder: Path) -> None:
    """Simulate a volume for each split and link to it, 270 times for training and 30 for validation."""
    words = TRAINING_DATA.format(folder=folder / "one").split()
    subprocess.run([sys.executable, "-m", "mrirecon", *words], cwd=HERE, check=True, capture_output=True)
    before = time.time() - 60  # what has changed just now is checked anew
    for split, n in (("train", N_VOLUMES * 9 // 10), ("val", N_VOLUMES // 10)):
        (folder / "training" / split).mkdir(parents=True)
        (source,) = (folder / "one" / split).glob("*.h5")
        os.utime(source, (before, before))
        for i in range(n):
            (folder / "training" / split / f"file{i:03}.h5").hardlink_to(source)


def _first_step(folder: str, checkout: Path, is_known: bool) -> tuple[float, ...]:
    """Seconds until the first step of a training is written, seconds of computing until then, and memory in MiB."""
    cache = Path(folder, "cache")
    if not is_known:
        shutil.rmtree(cache, ignore_errors=True)
    curves = Path(folder, "first", "curves.csv")
    curves.unlink(missing_ok=True)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mrirecon", *TRAINING.format(folder=folder).split()],
        cwd=checkout,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not curves.is_file() or len(curves.read_text().splitlines()) < 2:
        if process.poll() is not None:
            raise RuntimeError(f"the training of {checkout} ended with {process.returncode} before its first step")
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    process.kill()  # its validation is no part of this
    _, _, usage = os.wait4(process.pid, 0)
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _print(name: str, found: list[tuple[float, ...]]) -> None:
    figures = (f"{wall:6.2f} s ({computing:.2f} s computing, {peak:.0f} MiB)" for wall, computing, peak in found)
    print(f"{name:<28}", *figures, flush=True)


if __name__ == "__main__":
    main()
