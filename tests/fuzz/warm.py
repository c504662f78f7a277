"""Import once what the commands import, so that a fork is ready at once: it is seen in a child that runs one."""

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from limited_child import Ended, run_limited


def run_and_import(work: Callable[[], int | None], folder: Path, seconds: float = 300) -> Ended:
    """Run `work` in a child, then import here all modules that it had in the end."""
    names = folder / "modules.txt"

    def noted() -> int:
        code = work() or 0
        names.write_text("\n".join(sys.modules))
        return code

    ended = run_limited(noted, folder, seconds=seconds)
    for name in names.read_text().split("\n") if names.is_file() else []:
        _import(name)
    return ended


def _import(name: str) -> None:
    if name in sys.modules:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    except Exception:  # some exist only where they were made
        return
