"""Record what a number depends on besides the configuration: code, versions, machine, data."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import mrirecon
from mrirecon.runs import package_versions


def provenance(**facts: Any) -> dict[str, Any]:
    """Versions, machine and the given facts, ready for JSON."""
    return {
        "mrirecon": mrirecon.__version__,
        "git": git_state(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": package_versions(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **facts,
    }


def git_state() -> dict[str, Any] | None:
    """Commit and whether files differ from it, when the package runs from a checkout."""
    folder = Path(mrirecon.__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", "."))} if commit else None


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
