"""Single values of a grid, checked. No torch here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrirecon.errors import InputError, did_you_mean

MOST = 4096  # trials or seeds


def read_name(name: Any) -> str:
    """The name of a study, which is that of its folder too."""
    text = name if isinstance(name, str) else ""
    if not text or text != Path(text).name or text.startswith("."):
        raise InputError(f"name {name!r} of the grid names a folder; use letters, digits, - and _")
    return text


def read_seeds(content: Any) -> tuple[int, ...]:
    """The seeds of the reruns, given by their number or one by one."""
    if isinstance(content, int) and content > MOST:
        raise InputError(f"seeds is {content}; at most {MOST}")
    seeds = list(range(content)) if isinstance(content, int) and not isinstance(content, bool) else content
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise InputError(f"seeds is {content!r}; give their number, or a list of numbers from 0 on")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds {seeds} holds one twice")
    return tuple(seeds)


def read_targets(content: Any) -> tuple[float, ...]:
    """Shares of the gap that times are taken to."""
    if not isinstance(content, list):
        raise InputError(f"targets is {content!r}; give a list of shares, such as [0.9, 0.97]")
    return tuple(share("targets", value) for value in content)


def share(name: str, value: Any) -> float:
    """A number above 0 and at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(f"{name} {value!r}; it must be a share between 0 and 1")
    return float(value)


def require_known(where: str, content: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse what is no mapping, or has a key that is not known."""
    if not isinstance(content, Mapping):
        raise InputError(f"{where} is {content!r}; it must map {', '.join(known)} to values")
    for name in content:
        if name not in known:
            raise InputError(
                f"unknown key '{name}' in {where}{did_you_mean(str(name), known)} Known: {', '.join(known)}"
            )
