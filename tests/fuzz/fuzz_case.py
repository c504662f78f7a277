"""One case: make the input, run the command on it in a fork or a process of its own, judge."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
from limited_child import SECONDS, run_limited
from oracle import fault_of

_SHELL_SECONDS = 120.0  # with the start of an interpreter, whose imports take seconds, on a busy machine many
_PRINTED = (("child", "stdout.txt"), ("child", "stderr.txt"))


@dataclass(frozen=True)
class Case:
    """One mutated input: everything about it follows from its class, seed and number."""

    kind: str  # hdf5, checkpoint or yaml
    mutation: str
    seed: int
    number: int
    by_shell: bool = False  # a process of its own, in place of a fork


@dataclass(frozen=True)
class Outcome:
    """How a case went; `fault` is empty where the command did what it may do."""

    case: Case
    code: int | None
    fault: str
    said: str  # the first line of the refusal
    command: str
    seconds: float
    peak_bytes: int


def run_case(case: Case, module: ModuleType, keep: Path | None = None, seconds: float = SECONDS) -> Outcome:
    """Make the input, run the command on it, judge. The folder of a case that fails is moved into `keep`."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        rng = np.random.default_rng([case.seed, *case.kind.encode(), case.number])
        words = module.prepare(folder, case.mutation, rng, case.number)
        before = _digests(folder)
        call = _by_shell(words) if case.by_shell else _in_process(words)
        ended = run_limited(call, folder / "child", seconds=_SHELL_SECONDS if case.by_shell else seconds)
        after = _digests(folder)
        left = sorted(path for path, digest in after.items() if before.get(path) != digest)
        is_fair = partial(module.is_fair_failure, folder, words)
        fault = fault_of(ended, left, lambda: module.wrong_result(folder, words), folder / "judge", is_fair)
        said = ended.stderr.strip().split("\n")[0][:300]
        outcome = Outcome(case, ended.code, fault, said, " ".join(words), ended.seconds, ended.peak_bytes)
        if fault and keep is not None:
            _keep(folder, keep, outcome)
        return outcome
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` but what commands print."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parts[-2:] not in _PRINTED]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _in_process(words: list[str]) -> Callable[[], int]:
    def work() -> int:
        from mrirecon.cli import main

        return main(words)

    return work


def _by_shell(words: list[str]) -> Callable[[], int]:
    return lambda: subprocess.run([sys.executable, "-m", "mrirecon", *words], check=False).returncode


def _keep(folder: Path, keep: Path, outcome: Outcome) -> None:
    case = outcome.case
    place = keep / f"{'shell-' * case.by_shell}{case.kind}-{case.number}-{case.mutation.replace(' ', '-')}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place, symlinks=True)
    (place / "outcome.json").write_text(json.dumps(asdict(outcome), indent=2))
