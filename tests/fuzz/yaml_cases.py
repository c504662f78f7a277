"""Mutated YAML files under `train` and `ablate run`: what is called, and what is right afterwards."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from trained_run import trained
from warm import run_and_import
from yaml_mutations import CLASSES, mutate_yaml
from yaml_texts import STUDY, TRAINING

from mrirecon.cli import main

_COMMANDS = ("print", "print", "train", "study")


def warm_up() -> None:
    """The data that trainings and studies read; and import what the commands import."""
    trained()
    with tempfile.TemporaryDirectory() as name:
        for command in dict.fromkeys(_COMMANDS):
            folder = Path(name) / command
            folder.mkdir()
            words = _words(folder, command, (STUDY if command == "study" else TRAINING).encode())
            ended = run_and_import(lambda words=words: main(words), folder / "child")
            if ended.code != 0 or wrong_result(folder, words):
                raise RuntimeError(f"{command} of a sound file fails: {ended}")


def prepare(folder: Path, mutation: str, rng: np.random.Generator, number: int) -> list[str]:
    """Write the file; the words of the command: what a configuration becomes, a first step, what a study would do."""
    command = _COMMANDS[rng.integers(len(_COMMANDS))]
    return _words(folder, command, mutate_yaml(STUDY if command == "study" else TRAINING, mutation, rng))


def _words(folder: Path, command: str, content: bytes) -> list[str]:
    file, data, out = folder / "file.yaml", str(trained() / "data"), str(folder / "out")
    file.write_bytes(content)
    if command == "print":
        return ["train", "-c", str(file), "--print-config", "--quiet"]
    if command == "study":
        return ["ablate", "run", str(file), "--dry-run", "--data", data, "-o", out, "--device", "cpu", "--quiet"]
    once = {"accumulate": 1, "max-steps": 1, "max-epochs": 0, "workers": 0, "threads": 1, "device": "cpu"}
    flags = [f"--{name}={value}" for name, value in once.items()]
    return ["train", "-c", str(file), "--data", data, "-o", out, *flags, "--quiet"]


def is_fair_failure(folder: Path, words: list[str], text: str) -> bool:
    """No work on a mutated file may fail half-way."""
    return False


def wrong_result(folder: Path, words: list[str]) -> str:
    """What a success did wrong: values that the file does not say, weights that are not finite, files of a dry run."""
    out = folder / "out"
    if words[0] == "ablate":
        said = (folder / "child" / "stdout.txt").read_text()
        return "a dry run that writes" if out.exists() else "" if "estimate" in said else "no estimate"
    resolved = folder / "child" / "stdout.txt" if "--print-config" in words else out / "config.yaml"
    wrong = _not_as_written(folder / "file.yaml", yaml.safe_load(resolved.read_text()))
    if wrong or "--print-config" in words:
        return wrong
    weights = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return "" if all(torch.isfinite(value).all() for value in weights.values()) else "weights that are not finite"


_GIVEN = (
    "data.path",
    "accumulate",
    "max_steps",
    "max_epochs",
    "output",
    "overwrite",
    "device",
    "threads",
    "data.workers",
)


def _not_as_written(file: Path, resolved: dict[str, Any]) -> str:
    """The first key whose resolved value is not what YAML says, with the flags of the command left out."""
    found = dict(_leaves(resolved))
    for key, value in _leaves(yaml.safe_load(file.read_bytes()) or {}):
        if key not in _GIVEN and value is not None and not _same(found.get(key), value):
            return f"{key} is {found.get(key)!r}, the file says {value!r}"
    return ""


def _leaves(content: dict[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs = []
    for name, value in content.items():
        is_group = isinstance(value, dict) and f"{prefix}{name}" not in ("model.norm", "optimizer.name", "loss")
        pairs += _leaves(value, f"{prefix}{name}.") if is_group else [(f"{prefix}{name}", value)]
    return pairs


def _same(found: Any, written: Any) -> bool:
    """Equal, or the same number or text in another type."""
    if isinstance(written, list) and isinstance(found, list):
        return len(found) == len(written) and all(map(_same, found, written))
    try:
        return found == written or str(found) == str(written) or float(found) == float(written)
    except (TypeError, ValueError, OverflowError):
        return False


__all__ = ["CLASSES", "is_fair_failure", "prepare", "warm_up", "wrong_result"]
