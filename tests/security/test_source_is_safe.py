"""The package's own source: nothing in it unpickles, evaluates or builds objects from data."""

import ast
from pathlib import Path

import pytest

import mrirecon

SOURCE = Path(mrirecon.__file__).parent
_PICKLES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
# torch.export.load reads the file that the same call of `mrirecon export` has just written
_ALLOWED = {
    ("workflows/export/formats.py", "torch.export.load"),
    ("data/loading/loaders.py", "pickle"),  # what this very process's workers send through its own pipes
}


def name_of(node):
    """`a.b.c` of a call's function, or an empty string."""
    words = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(words)]) if isinstance(node, ast.Name) else ""


def is_true(call, keyword):
    return any(k.arg == keyword and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords)


def is_false(call, keyword):
    """Left out, or False."""
    given = [k.value for k in call.keywords if k.arg == keyword]
    return all(isinstance(value, ast.Constant) and value.value is False for value in given)


def faults_of_call(call):
    name = name_of(call.func)
    method = call.func.attr if isinstance(call.func, ast.Attribute) else name
    if name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
        yield name
    if name.startswith(("torch.hub.", "torch.jit.load", "torch.export.load")) or method == "load_from_checkpoint":
        yield name or method
    if name == "torch.load" and not is_true(call, "weights_only"):
        yield "torch.load without weights_only=True"
    if any(k.arg == "ckpt_path" for k in call.keywords) and not is_true(call, "weights_only"):
        yield "ckpt_path without weights_only=True"
    if not is_false(call, "allow_pickle"):
        yield "allow_pickle"
    if not is_false(call, "shell"):
        yield "shell"
    if name.startswith("yaml.") and method in ("load", "load_all", "full_load", "unsafe_load", "full_load_all"):
        yield name
    if name.endswith(("read_pickle", "to_pickle", "torch.serialization.add_safe_globals")):
        yield name


def faults(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield from faults_of_call(node)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in _PICKLES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in _PICKLES:
                yield node.module
            # a bare name would hide the call from this test
            hidden = {"torch": ("load",), "yaml": ("load", "unsafe_load"), "numpy": ("load",), "os": ("system",)}
            yield from (alias.name for alias in node.names if alias.name in hidden.get(node.module, ()))


def test_nothing_in_the_package_runs_data():
    found = {
        (path.relative_to(SOURCE).as_posix(), fault)
        for path in SOURCE.rglob("*.py")
        for fault in faults(path.read_text(encoding="utf-8"))
    }
    assert found == _ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import torch; torch.load(path, weights_only=flag)",
        "from torch import load; load(path)",
        "trainer.fit(module, ckpt_path=path)",
        "ReconModule.load_from_checkpoint(path)",
        "import pickle",
        "from pickle import loads",
        "def f():\n    import cloudpickle.fast",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import yaml; yaml.load(text, yaml.Loader)",
        "import yaml; yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "import os; os.system(text)",
        "import subprocess; subprocess.run(text, shell=True)",
        "torch.export.load(path)",
    ],
)
def test_each_fault_is_seen(source):
    assert list(faults(source))


@pytest.mark.parametrize("source", ["module.eval()", "torch.load(p, weights_only=True)", "np.load(p)", "re.compile(x)"])
def test_what_is_safe_is_not(source):
    assert not list(faults(source))
