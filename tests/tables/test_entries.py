"""One table for each kind of thing: complete, torch-free, and the only list of its names."""

import ast
import itertools
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

import mrirecon
from mrirecon import tables
from mrirecon.config import AugmentConfig, DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.tables.augmentations import AUGMENTATIONS
from mrirecon.tables.entry import builder, fill_in, named
from mrirecon.tables.losses import LOSSES
from mrirecon.tables.masks import MASKS
from mrirecon.tables.methods import METHODS
from mrirecon.tables.metrics import METRICS
from mrirecon.tables.models import MODELS
from mrirecon.tables.norms import NORMS, NormEntry
from mrirecon.tables.optimizers import OPTIMIZERS
from mrirecon.tables.schedules import SCHEDULES
from mrirecon.tables.transforms import TRANSFORMS

ROOT = Path(mrirecon.__file__).parent
SCRIPTS = Path(__file__).parents[2] / "scripts"  # which is not installed
TABLES = {  # with the configuration whose keys are the options of its entries
    "NORMS": (NORMS, ModelConfig),
    "OPTIMIZERS": (OPTIMIZERS, OptimizerConfig),
    "SCHEDULES": (SCHEDULES, ScheduleConfig),
    "LOSSES": (LOSSES, TrainConfig),
    "MASKS": (MASKS, DataConfig),
    "TRANSFORMS": (TRANSFORMS, ModelConfig),
    "AUGMENTATIONS": (AUGMENTATIONS, AugmentConfig),
}
NAMES = {table: entries.keys() for table, (entries, _) in TABLES.items()}
NAMES |= {"METRICS": METRICS.keys(), "METHODS": METHODS.keys(), "MODELS": MODELS.keys()}
ENTRIES = [(table, name) for table, (entries, _) in TABLES.items() for name in entries]
MODULES = sorted(path.stem for path in Path(tables.__file__).parent.glob("*.py") if path.stem != "__init__")
# where two names of one table may stand side by side, and why
ALLOWED = {
    "ablation/claims/ledger.py": "claims of the lecture, each about the methods that it names",
    "evaluation/__init__.py": "the functions ssim, psnr and nmse",
    "evaluation/summary.py": "what fastMRI's own command prints",
    "benchmark_ablation.py": "the two cells of a study that is timed",
    "benchmark_evaluation.py": "sets of metrics that are timed",
    "same_numbers.py": "runs whose numbers are compared",
}


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_an_entry_is_whole(table, name):
    entry = TABLES[table][0][name]
    assert table == "TRANSFORMS" or callable(builder(entry.build))
    assert entry.help.strip() == entry.help != ""
    assert "\n" not in entry.help
    known = {item.name for item in fields(TABLES[table][1])}
    assert set(getattr(entry, "options", ())) <= known
    assert named(TABLES[table][0], name, "thing") is entry


def test_tables_load_nothing_but_python():
    code = "; ".join(f"import mrirecon.tables.{name}" for name in MODULES)
    code += "; import sys; print(*{'torch', 'numpy', 'yaml', 'jsonargparse'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"


@pytest.mark.parametrize("table", TABLES)
def test_an_unknown_name_is_answered_from_the_table(table, monkeypatch):
    entries = TABLES[table][0]
    monkeypatch.setitem(entries, "toy", next(iter(entries.values())))
    with pytest.raises(InputError, match=r"unknown thing 'toi'; did you mean 'toy'\? Known: .*toy\. Or so\."):
        named(entries, "toi", "thing", "Or so.")


def test_placeholders_of_help_are_filled_in_from_the_tables(monkeypatch):
    assert fill_in("{NORMS}, or {class_path, init_args}") == f"{', '.join(NORMS)}, or {{class_path, init_args}}"
    assert fill_in("{LOSSES:l1_weight}: weight") == "l1_ssim: weight"
    assert fill_in("{OPTIMIZERS:alpha}") == "rmsprop 0.99"
    assert "lion 0.9 0.99" in fill_in("{OPTIMIZERS:betas}")
    assert "complex (coil-combined" in fill_in("{TRANSFORMS:help}")
    monkeypatch.setitem(NORMS, "toy", NormEntry("", "", options=("n_groups",)))
    assert fill_in("{NORMS:n_groups}") == "group, toy"


def names_side_by_side(path):
    """Lists, tuples, sets, keys and type arguments that hold two names of one table."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            items = node.elts
        elif isinstance(node, ast.Dict):
            items = [key for key in node.keys if key is not None]
        else:
            continue
        texts = {item.value for item in items if isinstance(item, ast.Constant)}
        for table, names in NAMES.items():
            if len(texts & names) > 1:
                yield f"{path}:{node.lineno}: {sorted(texts & names)} of {table}"


def test_names_are_listed_in_their_table_and_nowhere_else(tmp_path):
    sources = [path for path in ROOT.rglob("*.py") if path.parent != ROOT / "tables"]
    sources += SCRIPTS.glob("*.py")
    assert len(sources) > 200
    found = [where for path in sources for where in names_side_by_side(path)]
    assert [where for where in found if not any(name in where for name in ALLOWED)] == []
    assert all(any(name in where for where in found) for name in ALLOWED)  # none is allowed in vain
    (tmp_path / "second.py").write_text("KNOWN = ('adam', 'x', 'lion')\nif norm in {'group': 1, 'layer': 2}: pass\n")
    assert len(list(names_side_by_side(tmp_path / "second.py"))) == 2


@pytest.mark.parametrize("table", NAMES)
def test_help_of_configurations_names_no_entry_by_hand(table):
    """Two names in a row, in the source of a help text."""
    for path in (ROOT / "config").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = node.value.replace(",", " ").split()
                assert not [pair for pair in itertools.pairwise(words) if set(pair) <= NAMES[table]], path


PACKAGES = [path.parent.name for path in ROOT.glob("*/__init__.py") if "_HOMES" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_names_that_a_package_loads_when_used(package):
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    module = import_module(f"mrirecon.{package}")
    own = f"mrirecon.{package}."
    homes = {name: home if home.startswith("mrirecon.") else own + home for name, home in module._HOMES.items()}
    assert seen == homes
    for name, home in seen.items():
        assert getattr(module, name) is getattr(import_module(home), name)
