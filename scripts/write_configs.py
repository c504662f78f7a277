"""Writes the shipped configurations that are made from the tables and the keys: base.yaml and optimizer/*.yaml.

    python scripts/write_configs.py [--output configs]

To be run after an entry of `mrirecon/tables/optimizers.py` or the help of a key has changed (a test says when).
"""

import argparse
from itertools import groupby
from pathlib import Path
from typing import Any

from mrirecon.config import TrainConfig
from mrirecon.configfile import keys
from mrirecon.tables.optimizers import OPTIMIZERS

HEAD = """\
# Every key of `mrirecon train`, with its default. Each is also a flag: `optimizer.lr` is --optimizer.lr or --lr.
# An overlay (`-c file.yaml`) holds only the keys that differ; flags win over overlays.

"""
OUTSIDE_GROUPS = "# the training itself\n"


def base() -> str:
    """Every key with its help and its default."""
    lines = [HEAD]
    for group, members in groupby(keys(TrainConfig), lambda key: key.name.rpartition(".")[0]):
        lines.append(f"{group}:\n" if group else OUTSIDE_GROUPS)
        indent = "  " if group else ""
        for key in members:
            name = key.name.rpartition(".")[2]
            lines.append(f"{indent}# {key.help}\n{indent}{name}: {written(key.default)}\n")
    return "".join(lines)


def overlay(name: str) -> str:
    """An optimizer with its recommended rate and its own settings; one that is 0 is off and left out."""
    entry = OPTIMIZERS[name]
    settings = {"optimizer.name": name, "optimizer.lr": entry.lr}
    settings |= {f"optimizer.{key}": value for key, value in entry.options.items() if value != 0}
    settings |= entry.overlay
    lines = [f"# {entry.help}\n"]
    for group, members in groupby(settings.items(), lambda item: item[0].partition(".")[0]):
        lines += [f"{group}:\n", *(f"  {key.partition('.')[2]}: {written(value)}\n" for key, value in members)]
    return "".join(lines)


def written(value: Any) -> str:
    """A value in YAML, where an exponent needs a point before it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and "e" in repr(value):
        digits, exponent = repr(value).split("e")
        return f"{digits if '.' in digits else digits + '.0'}e{int(exponent)}"
    return str(value) if value != "" else '""'


def texts() -> dict[str, str]:
    """What the files hold, by their path in the folder of configurations."""
    return {"base.yaml": base(), **{f"optimizer/{name}.yaml": overlay(name) for name in OPTIMIZERS}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "configs")
    folder = parser.parse_args().output
    for path, text in texts().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
