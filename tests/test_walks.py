"""CONTRIBUTING names the modules that a call goes through: each is there, and a run enters them in that order."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WALKS = {"train": ("**One slice from its file to a gradient step**", 32), "evaluate": ("**From a file to", 22)}

# Runs two commands and notes, of each, the modules of the package in the order in which a function of theirs first
# runs; what runs while a module is imported does not count.
_TRACED = """
import json, sys
from pathlib import Path
import fastmri, matplotlib.pyplot, pytorch_lightning  # which would be slow to import while each call is noted
import mrirecon
from mrirecon.cli import main

root = str(Path(mrirecon.__file__).parent) + "/"
order, importing = [], 0

def note(frame, event, _argument):
    global importing
    code = frame.f_code
    if code.co_name == "<module>":
        importing += {"call": 1, "return": -1}.get(event, 0)
    elif event == "call" and not importing and code.co_filename.startswith(root) and code.co_flags & 2:
        order.append(code.co_filename.removeprefix(root).removesuffix(".py"))

found = []
for words in json.loads(sys.argv[1]):
    order.clear()
    sys.setprofile(note)
    code = main(words)
    sys.setprofile(None)
    assert code == 0, words
    found.append(list(dict.fromkeys(order)))
print(json.dumps(found))
"""


def walk(command):
    """The modules that the paragraph of a command names, in their order."""
    begin, _ = WALKS[command]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paragraph = text[text.index(begin) :].partition("\n\n")[0]
    return re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)+)`", paragraph)


@pytest.mark.parametrize("command", WALKS)
def test_each_module_is_there_and_named_once(command):
    named, (_, most) = walk(command), WALKS[command]
    assert [path for path in named if not (ROOT / "mrirecon" / f"{path}.py").is_file()] == []
    assert sorted(set(named)) == sorted(named)
    assert 15 < len(named) <= most


@pytest.fixture(scope="module")
def entered(tmp_path_factory):
    """The modules that a training of one step and an evaluation of one volume go through, in their order."""
    from mrirecon.config import SimulateConfig
    from mrirecon.workflows.simulate import simulate_dataset

    folder = tmp_path_factory.mktemp("walks")
    data = simulate_dataset(
        SimulateConfig(output=str(folder / "data"), train=1, val=1, test=1, slices=1, matrix=[32, 32], coils=2)
    )
    few = ["--quiet", "--no-cache", "--data", str(data)]
    calls = [
        ["train", *few, "--channels", "4", "--pools", "2", "--max-steps", "1", "--logger", "csv", "-o", "run"],
        ["evaluate", "zero-filled", *few, "--split", "test", "-o", "tables"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", _TRACED, json.dumps(calls)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(WALKS, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.slow  # two commands with every call noted: 12 s of computing
@pytest.mark.parametrize("command", WALKS)
def test_a_run_enters_them_in_this_order(command, entered):
    named = walk(command)
    assert [path for path in entered[command] if path in named] == named
