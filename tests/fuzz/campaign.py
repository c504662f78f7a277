"""Many cases, in several processes, the outcomes in order."""

import json
import os
import tempfile
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

from fuzz_case import Case, Outcome, run_case


def plan(kind: str, module: ModuleType, n_cases: int, seed: int) -> list[Case]:
    """`n_cases` cases of a kind, its classes in turn."""
    classes = module.CLASSES
    return [Case(kind, classes[i % len(classes)], seed, i) for i in range(n_cases)]


def some_by_shell(cases: list[Case], n_cases: int) -> list[Case]:
    """`n_cases` of the cases, spread evenly, once more through the real command line."""
    step = max(len(cases) // max(n_cases, 1), 1)
    return [replace(case, by_shell=True) for case in cases[::step][:n_cases]]


def run_all(
    cases: Iterable[Case], modules: dict[str, ModuleType], jobs: int = 2, keep: Path | None = None
) -> list[Outcome]:
    """All cases, spread over `jobs` forked workers; in the order of the cases."""
    cases = list(cases)
    warm_up(modules[kind] for kind in dict.fromkeys(case.kind for case in cases))  # before the forks
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{job}.jsonl" for job in range(jobs)]
        workers = [_start(cases[job::jobs], modules, files[job], keep) for job in range(jobs)]
        failed = [status for status in (os.waitpid(worker, 0)[1] for worker in workers) if status]
        if failed:
            raise RuntimeError(f"{len(failed)} workers of the fuzzer failed: {failed}")
        outcomes = [outcome for file in files for outcome in _read(file)]
    outcomes.sort(key=lambda outcome: (outcome.case.kind, outcome.case.number, outcome.case.by_shell))
    return _compared(outcomes)


def _compared(outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes; those of the real command line have a fault where the fork of the same case ended otherwise."""
    codes = {outcome.case: outcome.code for outcome in outcomes}
    forked = [codes.get(replace(outcome.case, by_shell=False), outcome.code) for outcome in outcomes]
    return [
        replace(outcome, fault=outcome.fault or f"exit code {outcome.code}, in a fork {code}")
        if outcome.code != code
        else outcome
        for outcome, code in zip(outcomes, forked, strict=True)
    ]


def _start(cases: list[Case], modules: dict[str, ModuleType], file: Path, keep: Path | None) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with file.open("w") as handle:
            for case in cases:
                handle.write(json.dumps(asdict(run_case(case, modules[case.kind], keep))) + "\n")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _read(file: Path) -> Iterator[Outcome]:
    for line in file.read_text().splitlines():
        fields = json.loads(line)
        yield replace(Outcome(**fields), case=Case(**fields["case"]))


def warm_up(modules: Iterable[ModuleType]) -> None:
    """Make once what all cases of a kind share; torch keeps to one thread, which forks survive."""
    import torch

    torch.set_num_threads(1)
    for module in modules:
        module.warm_up()
