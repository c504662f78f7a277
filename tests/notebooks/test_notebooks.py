"""The notebooks run without a complaint, their .ipynb are their sources, the Spanish ones have the same code."""

import importlib.util
import re
from pathlib import Path

import nbclient
import pytest

ROOT = Path(__file__).resolve().parents[2]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def load_script():
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "scripts" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()
ENGLISH = [source for source in script.sources() if source.parent.name != "es"]
SPANISH = [source for source in script.sources() if source.parent.name == "es"]


def stems(paths):
    return [path.stem for path in paths]


def cells(source, kind):
    made = script.notebook(source)
    return [(cell.source, cell.metadata.get("tags")) for cell in made.cells if cell.cell_type == kind]


def texts(output):
    yield output.get("text", "")
    yield from (str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/"))
    yield from output.get("traceback", ())


@pytest.mark.parametrize("source", ENGLISH, ids=stems(ENGLISH))
def test_it_runs_without_a_complaint(source, tmp_path, monkeypatch):
    real = ROOT.parent / "shared" / "data" / "multicoil"
    if real.is_dir():
        monkeypatch.setenv("MRIRECON_DATA", str(real))
    made = script.notebook(source)
    nbclient.NotebookClient(made, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in made.cells for output in cell.get("outputs", ())]
    said = [ANSI.sub("", text) for output in outputs for text in texts(output)]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert [text for text in said if "Traceback" in text or "Warning" in text] == []
    assert list(tmp_path.iterdir()) == []  # it keeps its files to itself


@pytest.mark.parametrize("source", script.sources(), ids=str)
def test_the_ipynb_is_its_source_without_outputs(source):
    written = source.with_suffix(".ipynb").read_text()
    assert written == script.text_of(script.notebook(source)), "run scripts/notebooks.py"
    assert '"outputs": []' in written
    assert len(source.read_text().splitlines()) < (250 if source in ENGLISH else 280)  # Spanish prose is longer


def test_the_spanish_notebooks_have_the_same_code_and_other_prose():
    assert stems(SPANISH) == stems(ENGLISH)
    for english, spanish in zip(ENGLISH, SPANISH, strict=True):
        assert cells(spanish, "code") == cells(english, "code")
        pairs = list(zip(cells(english, "markdown"), cells(spanish, "markdown"), strict=True))
        assert all(original != translated for original, translated in pairs)


def test_the_table_of_the_lecture_is_that_of_now():
    readme = (script.NOTEBOOKS / "README.md").read_text()
    assert readme == script.with_table(readme), "run scripts/notebooks.py"


def test_every_item_of_the_lecture_is_tested_or_has_what_decides_it():
    rows = [line.split(" | ") for line in script.table().splitlines()[2:]]
    assert len(rows) == 51
    assert [row[0] for row in rows if not row[3].strip() and not row[4].strip(" |")] == []
    assert [row[0] for row in rows if not row[1].strip()] == []


def test_tags_are_items():
    assert set(script.shown()) <= set(script.items())
    assert set(script.tested()) <= set(script.items())
