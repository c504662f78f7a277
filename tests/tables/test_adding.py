"""The examples of docs/adding.md do what the page says."""

import csv
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import mrirecon
from mrirecon import tables
from mrirecon.cli import main
from mrirecon.config import OptimizerConfig

PAGE = (Path(__file__).parents[2] / "docs" / "adding.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n# (mrirecon/\S+)\.py(?:, in ([A-Z]+))?\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def added(monkeypatch):
    """All of them in place, as if the page had been followed."""
    for path, table, text in EXAMPLES:
        name = path.replace("/", ".")
        if not (Path(mrirecon.__file__).parents[1] / f"{path}.py").is_file():
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        module = sys.modules.get(name) or import_module(name)
        known = set(vars(module))
        if table:
            for key, entry in eval(f"{{{text}}}", vars(module)).items():
                monkeypatch.setitem(getattr(module, table), key, entry)
        else:
            exec(text, vars(module))
        for new in set(vars(module)) - known:
            monkeypatch.setattr(module, new, vars(module).pop(new), raising=False)


def test_there_is_an_example_for_each_heading():
    assert len(re.findall("```python", PAGE)) == len(EXAMPLES)
    assert {table for _, table, _ in EXAMPLES} - {""} == {
        Path(path).stem.upper() for path, table, _ in EXAMPLES if table
    }
    assert PAGE.count("\n## ") == len({table for _, table, _ in EXAMPLES if table}) == 6
    assert all((Path(tables.__file__).parent / f"{t.lower()}.py").is_file() for _, t, _ in EXAMPLES if t)


def test_each_is_in_help_training_evaluation_and_comparison(added, tmp_path, volume_writer, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        volume_writer(tmp_path / "data" / split / f"{split}.h5", n_coils=2, matrix=(40, 36))
    for command, words in {
        "train": ("rms", "adamax", "uniform", "mae", "unrolled"),
        "evaluate": ("uniform", "mae", "landweber", "--method.iterations"),
    }.items():
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert [word for word in words if word not in text] == []
    data = ["--data", "data", "--mask", "uniform", "--quiet"]
    small = [*data, "--channels", "4", "--max-steps", "2", "--precision", "fp32", "--optimizer", "adamax"]
    assert main(["train", *small, "--norm", "rms", "--pools", "2", "--monitor", "mae", "--output", "a"]) == 0
    assert main(["train", *small, "--model", "unrolled", "--output", "b"]) == 0
    assert "lr: 0.002" in Path("a/config.yaml").read_text()
    assert OptimizerConfig("adamax").with_lr().lr == 2e-3
    scored = [*data, "--split", "val", "--metrics", "mae", "ssim"]
    for name, words in {"a": [], "b": [], "landweber": ["--method.iterations", "3"]}.items():
        assert main(["evaluate", name, *words, *scored, "--output", f"of-{name}"]) == 0
        with Path(f"of-{name}/volumes.csv").open() as handle:
            (row,) = csv.DictReader(handle)
        assert 0 < float(row["mae"]) < 1
        assert row["mask"] == "uniform"
    assert main(["compare", "of-a", "of-b", "of-landweber", "--metric", "mae", "--quiet"]) == 0
    assert "MAE" in capsys.readouterr().out
