"""Do two versions of the package give the same numbers? The same calls in both, then what they wrote is compared.

    python scripts/same_numbers.py OLD NEW

OLD and NEW are an installed environment (a folder with bin/python, into which mrirecon is installed) or a checkout (a
folder with mrirecon/, which this interpreter runs). Each call is done by both, side by side, on the CPU with one thread
in fp32, and all files it leaves are compared: weights, checkpoints, HDF5 and safetensors bit for bit, tables cell by
cell, JSON value by value; but for times. A line a call: what was compared, and equal or the first difference. What only
NEW has (a column, a key, a file) is named and no difference; what only OLD has is one. The exit code is 1 where
anything differs that is not intended: by INTENDED, or --intended.
"""

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import torch
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]

# Changes that are meant: the name of a difference as it is printed (with * for any text), and the reason.
INTENDED: dict[str, str] = {
    "compare:comparison.json:paragraph": "SSIM inside the object is named beside SSIM",
    "ablate run*:report/results.json:families.*.note": "the metric is called by its label, SSIM",
}

# times, places and what the machine is: never the same twice
_MOVES = re.compile(
    r"seconds|per_s$|hours|memory|peak_|created|host|device_name|^code$|python|version|git|hash|overwrite"
)
# in a study's folder each attempt at a run has a folder of its own name
_ATTEMPT = re.compile(r"(runs/[0-9a-f]{16})/([0-9a-f]{12})/")


@dataclass(frozen=True)
class Call:
    """One call, and the folder that it writes and that is compared."""

    name: str
    words: str
    writes: str = ""  # folder; nothing is compared where it is empty
    is_stopped: bool = False  # by SIGTERM, at its first checkpoint


@dataclass
class Found:
    """What a comparison found."""

    compared: Counter[str] = field(default_factory=Counter)  # kind of file -> number
    differences: dict[str, str] = field(default_factory=dict)  # file:what -> how they differ
    new: list[str] = field(default_factory=list)  # what only NEW has


# ---- the calls

TRAIN = "train --channels 4 --pools 2 --batch-size 2 --val-every 4 --logger csv --threads 1 --precision fp32 --seed 1"
ONE = "--threads 1 --precision fp32"


def calls(real: Path) -> list[Call]:
    """All of them, in order; those on measured files where they are present."""
    runs = {
        "adam": "--optimizer adam --norm instance --lr 1e-3",
        "momentum": "--optimizer momentum --norm batch --lr 1e-2 --average ema --average.decay 0.7",
        "schedulefree": "--optimizer schedulefree_adamw --norm batch --lr 1e-2 --loss l1_ssim",
        "muon": "--optimizer muon --norm group --lr 1e-2 --acceleration 4 8",
        "normunet": "--model normunet --input complex --optimizer adamw --lr 1e-3 --optimizer.weight-decay 1e-3",
    }
    found = [
        Call(
            "simulate",
            "data simulate data --train 4 --val 2 --test 5 --slices 2 --matrix 64 64 --coils 2 --seed 3",
            "data",
        ),
        Call(
            "simulate single", "data simulate one --train 0 --val 0 --test 2 --slices 2 --matrix 64 64 --coils 1", "one"
        ),
    ]
    for name, words in runs.items():
        call = f"{TRAIN} --data data --data.workers 0 --max-steps 12 {words} -o runs/{name}"
        found.append(Call(f"train {name}", call, f"runs/{name}"))
    long = f"{TRAIN} --data data --data.workers 0 --max-steps 150 --val-every 50 --checkpoint-every 2 {runs['adam']}"
    two = f"{TRAIN} --data data --data.workers 0 --max-steps 8 {runs['momentum']} --devices 2 --device cpu"
    found += [
        Call("train, stopped", f"{long} -o runs/stopped", is_stopped=True),
        Call("train --resume", "train --resume runs/stopped", "runs/stopped"),
        Call("train, 2 processes", f"{two} -o runs/two", "runs/two"),
    ]
    evaluations = {
        "zero-filled": "zero-filled --acceleration 4 8 --mask-draws 2 --save",
        "zero-filled, 2 processes": "zero-filled --acceleration 4 --devices 2 --device cpu",
        "adam": "runs/adam --acceleration 4 8 --mask-draws 2 --save",
        "adam, 2 processes": "runs/adam --acceleration 4 --mask-draws 2 --devices 2 --device cpu",
        "normunet": "runs/normunet --acceleration 4 --checkpoint last",
        "muon": "runs/muon --acceleration 8",
        "schedulefree": "runs/schedulefree --acceleration 4 --bn-stats recalibrated",
    }
    evaluations |= {
        kind: f"runs/momentum --acceleration 4 --bn-stats {kind}" for kind in ("running", "batch", "recalibrated")
    }
    for name, words in evaluations.items():
        where = f"ev/{name.replace(', 2 processes', '-two')}"
        found.append(Call(f"evaluate {name}", f"evaluate {words} --data data --split test {ONE} -o {where}", where))
    found += [
        Call("evaluate single", f"evaluate runs/adam --data one --split test {ONE} -o ev/one", "ev/one"),
        Call("reconstruct", f"reconstruct runs/momentum data/test {ONE} -o images", "images"),
        Call("reconstruct 2 processes", f"reconstruct runs/normunet data/test {ONE} --devices 2 -o two", "two"),
        Call("score", "score images data/test --mask random --acceleration 4 -o scored", "scored"),
        Call("export", "export runs/adam -o exported", "exported"),
        Call("compare", "compare ev/normunet ev/running -o compared", "compared"),
        Call("ablate run", "ablate run small_smoke.yaml -o study --workers 1 --threads 1", "study"),
        Call("ablate run again", "ablate run small_smoke.yaml -o study --workers 1 --threads 1", "study"),
    ]
    for kind in ("multicoil", "singlecoil"):
        if (real / kind).is_dir():
            where = f"--data {real / kind} --split all {ONE}"
            found += [
                Call(f"zero-filled {kind}", f"evaluate zero-filled {where} -o real/zf-{kind}", f"real/zf-{kind}"),
                Call(f"evaluate {kind}", f"evaluate runs/adam {where} -o real/{kind}", f"real/{kind}"),
                Call(
                    f"reconstruct {kind}",
                    f"reconstruct runs/adam {real / kind} {ONE} -o images-{kind}",
                    f"images-{kind}",
                ),
            ]
    return found


def small_smoke() -> str:
    """The shipped study `smoke` with its cells, cut from 52 runs of 40 steps to 36 of 8 on fewer slices."""
    grid = yaml.safe_load((ROOT / "configs" / "ablation" / "smoke.yaml").read_text())
    grid["base"] |= {"max_steps": 8, "val_every": 4, "precision": "fp32"}
    grid["tuning"] |= {"trials": 2, "sweep": 1}
    grid["simulate"] |= {"train": 3, "val": 2, "test": 5, "slices": 1, "matrix": [32, 32]}
    return yaml.safe_dump({"name": "smoke", **grid})


# ---- doing them


@dataclass(frozen=True)
class Side:
    """One of the two versions, with the folder that its calls are done in."""

    name: str
    python: str
    path: str  # for PYTHONPATH; empty: what is installed
    folder: Path

    @classmethod
    def of(cls, name: str, given: Path, folder: Path) -> "Side":
        given = given.absolute()
        if (given / "bin" / "python").is_file():
            python, path = str(given / "bin" / "python"), ""
        elif (given / "mrirecon" / "__init__.py").is_file():
            python, path = sys.executable, str(given)
        else:
            sys.exit(f"{given} is neither an environment (with bin/python) nor a checkout (with mrirecon/)")
        folder.mkdir()
        (folder / "small_smoke.yaml").write_text(small_smoke())
        side = cls(name, python, path, folder)
        code = "import mrirecon; print(mrirecon.__file__)"
        done = subprocess.run(
            [python, "-c", code], env=side.environment, cwd=folder, capture_output=True, text=True, check=False
        )
        imported = done.stdout.strip() or last_line(done.stderr)
        if path and not imported.startswith(path + os.sep):
            sys.exit(f"{given}: another mrirecon is imported instead: {imported}")
        if done.returncode:
            sys.exit(f"{given}: {imported}")
        print(f"{name}  {imported}")
        return side

    @property
    def environment(self) -> dict[str, str]:
        """One thread, no GPU, nothing of the other side's caches."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MRIRECON"))}
        kept |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "offline"}
        return kept | {"XDG_CACHE_HOME": str(self.folder / ".cache")} | ({"PYTHONPATH": self.path} if self.path else {})

    def do(self, call: Call) -> str:
        """Do a call; why it failed, or nothing."""
        words = [self.python, "-m", "mrirecon", *call.words.split(), "--quiet"]
        with subprocess.Popen(
            words, env=self.environment, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            if call.is_stopped:
                while process.poll() is None and not any(self.folder.glob("runs/stopped/**/*.ckpt")):
                    time.sleep(0.01)
                process.send_signal(signal.SIGTERM)
            _, err = process.communicate()
        wanted = 75 if call.is_stopped else 0
        return "" if process.returncode == wanted else f"exit code {process.returncode}: {last_line(err)}"


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["(nothing on stderr)"])[-1]


# ---- comparing


def read_csv(path: Path) -> dict[str, Any]:
    """Cells by row and column; rows of a table of several metrics are counted for each, as others may come between."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))
    names = rows[0] if rows else []
    metric = names.index("metric") if "metric" in names else None
    counts: Counter[str] = Counter()
    cells: dict[str, Any] = {f"column {name}": "there" for name in names}
    for row in rows[1:]:
        kind = "" if metric is None else f"{row[metric]} "
        cells |= {f"{name} ({kind}row {counts[kind]})": value for name, value in zip(names, row, strict=True)}
        counts[kind] += 1
    return cells | {f"number of {kind}rows": n for kind, n in counts.items()}


def read_json(path: Path) -> dict[str, Any]:
    return dict(leaves(json.loads(path.read_text(encoding="utf-8"))))


def read_h5(path: Path) -> dict[str, Any]:
    """Data sets and attributes."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]
        found.update({f"{name}@{key}": value for key, value in item.attrs.items()})

    with h5py.File(path) as file:
        visit("", file)
        file.visititems(visit)
    return found


def read_checkpoint(path: Path) -> dict[str, Any]:
    """All tensors and numbers; states of callbacks without the callback's name, which is not a number."""
    state = torch.load(path, weights_only=True)
    callbacks = state.pop("callbacks", {})
    own = {f"callback.{name}": value for content in callbacks.values() for name, value in leaves(content)}
    return dict(leaves(state)) | {name: value for name, value in own.items() if ".settings." not in name}


def leaves(content: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """What stands in nested dictionaries and lists, by dotted name."""
    if isinstance(content, dict | list | tuple):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
        yield prefix or "(all)", f"{type(content).__name__}"
    else:
        yield prefix, content


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".csv": read_csv,
    ".json": read_json,
    ".h5": read_h5,
    ".ckpt": read_checkpoint,
    ".safetensors": load_file,
}
_ONLY = {  # of the JSON files those with results
    ".json": ("summary.json", "comparison.json", "results.json", "split.json", "zero_filled.json", "report.json"),
}
_NOT = ("timing.csv", "data.csv")  # times; dates of the files


def files_of(folder: Path) -> dict[str, Path]:
    """The files that are compared, by a name that both sides give them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        of_kind = path.suffix in READERS and path.name in _ONLY.get(path.suffix, (path.name,))
        if of_kind and path.name not in _NOT and path.is_file():
            found[_ATTEMPT.sub(r"\1/", path.relative_to(folder).as_posix())] = path
    return found


def same(a: Any, b: Any) -> bool:
    """To the last bit, and of the same type."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        a, b = (x.view(torch.int16).numpy() if x.dtype == torch.bfloat16 else x.numpy() for x in (a, b))
    if isinstance(a, np.ndarray | np.generic) and isinstance(b, np.ndarray | np.generic):
        if object in (a.dtype, b.dtype):  # texts
            return np.array_equal(a, b)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and (repr(a) == repr(b))


def shown(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray) and np.ndim(value):
        total = torch.as_tensor(np.asarray(value)).abs().double().sum() if np.asarray(value).dtype != object else "?"
        return f"an array of shape {tuple(value.shape)}, sum of magnitudes {total:.17g}"
    return repr(value)[:100]


def read(path: Path, root: Path) -> dict[str, Any]:
    """Values by name; texts without the place of the file and without the name of the attempt that made it."""
    attempt = _ATTEMPT.search(path.as_posix())
    found = READERS[path.suffix](path)
    for key, value in found.items():
        if isinstance(value, str):
            text = value.replace(str(root), "ROOT")
            found[key] = text.replace(attempt[2], "ATTEMPT") if attempt else text
    return found


def compare_files(name: str, files: tuple[Path, Path], roots: tuple[Path, Path], found: Found) -> None:
    """Add what differs between two files to `found`."""
    old = files[0]
    try:
        first, second = (read(*both) for both in zip(files, roots, strict=True))
    except Exception as error:
        found.differences[f"{name}:unreadable"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return
    found.compared[old.suffix] += 1
    moves = {
        key for key in first.keys() | second.keys() if any(_MOVES.search(part) for part in re.split(r"[. @]", key))
    }
    for key in first:
        if key in moves and not key.startswith("column "):
            continue
        if key not in second:
            found.differences[f"{name}:{key}"] = f"OLD has {shown(first[key])}, NEW has none"
        elif not same(first[key], second[key]):
            found.differences[f"{name}:{key}"] = f"OLD {shown(first[key])}, NEW {shown(second[key])}"
    for key in second:
        if key not in first and key not in moves and "(row " not in key:
            found.new.append(f"{name}:{key}")


def compare_folders(roots: tuple[Path, Path], folder: str) -> Found:
    """Compare all files of a folder that both sides have below their roots."""
    found, (first, second) = Found(), (files_of(root / folder) for root in roots)
    for name in first:
        if name in second:
            compare_files(name, (first[name], second[name]), roots, found)
        else:
            found.differences[f"{name}:file"] = "only OLD has it"
    found.new += [f"{name}:file" for name in second if name not in first]
    if not first:
        found.differences["nothing"] = f"OLD wrote no file to {folder} that could be compared"
    return found


def line_of(call: Call, found: Found, intended: dict[str, str], used: set[str]) -> tuple[str, int]:
    """What is printed of a call, and how many differences are not meant."""
    open_ones: list[str] = []
    meant: list[str] = []
    for name, how in found.differences.items():
        full = f"{call.name}:{name}"
        pattern = next((pattern for pattern in intended if fnmatchcase(full, pattern)), None)
        if pattern is None:
            open_ones.append(f"{full}: {how}")
        else:
            used.add(pattern)
            meant.append(f"{full}: {how} (intended: {intended[pattern]})")
    what = ", ".join(f"{n} {kind}" for kind, n in sorted(found.compared.items())) or "nothing to compare"
    verdict = f"DIFFERENT in {len(open_ones)}, first {open_ones[0]}" if open_ones else "equal"
    lines = [f"{call.name:<26} {what:<46} {verdict}"]
    if meant:
        lines.append(f"{'':<26} {len(meant)} intended, first {meant[0]}")
    if found.new:
        things = list(dict.fromkeys(re.sub(r"^.*?:(?=column )", "", thing) for thing in found.new))
        lines.append(f"{'':<26} only NEW has: {', '.join(things[:12])}{' ...' if len(things) > 12 else ''}")
    return "\n".join(lines), len(open_ones)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--intended", action="append", default=[], metavar="NAME", help="a difference that is meant")
    parser.add_argument("--real", type=Path, default=ROOT.parent / "shared" / "data", help="folder of measured files")
    parser.add_argument("--keep", type=Path, help="do the calls in this new folder, and leave it")
    args = parser.parse_args()
    intended = INTENDED | dict.fromkeys(args.intended, "named by --intended")
    began, bad, used = time.monotonic(), 0, set[str]()
    with TemporaryDirectory() as scratch, ThreadPoolExecutor(2) as both:
        root = args.keep or Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        sides = [Side.of(name, given, root / name) for name, given in (("old", args.old), ("new", args.new))]
        todo = calls(args.real.resolve())
        for call in todo:
            failures = list(both.map(lambda side, call=call: side.do(call), sides))  # type: ignore[misc]
            found = compare_folders((sides[0].folder, sides[1].folder), call.writes) if call.writes else Found()
            for side, failure in zip(sides, failures, strict=True):
                if failure:
                    found.differences = {f"{side.name} failed": failure, **found.differences}
            line, n = line_of(call, found, intended, used)
            bad += n
            print(line, flush=True)
    for pattern in intended.keys() - used:
        print(f"intended, but nothing differs there: {pattern}")
    print(f"{len(todo)} calls in {time.monotonic() - began:.0f} s: {f'{bad} differences' if bad else 'all equal'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
