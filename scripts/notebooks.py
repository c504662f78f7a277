"""Writes each notebook's .ipynb beside its source (.py) and the lecture's table into notebooks/README.md; or runs them.

python scripts/notebooks.py                        writes both
python scripts/notebooks.py run DIR [NAME ...]     executes notebooks and stores them as HTML in DIR, with their times
"""

import ast
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

import jupytext
import nbformat

from mrirecon.ablation.claims.ledger import CLAIMS

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS, TESTS = ROOT / "notebooks", ROOT / "tests" / "lecture"
GROUPS = {"G": 16, "A": 11, "N": 11, "M": 8, "P": 5}  # gradient, adaptive, normalization, MRI, practicum
BEGIN, END = "<!-- table: scripts/notebooks.py -->\n", "<!-- end of the table -->\n"
MRI = {  # what the ledger of studies does not decide: the lecture's words, where the answer is from
    "M2": ("Random columns are better than equispaced ones.", "`--mask random` and `--mask equispaced`, compared"),
    "M3": ("The linear reconstruction is of no use.", "`mrirecon evaluate zero-filled sense tv RUN`"),
    "M4": ("Sparse images are recovered exactly from incoherent samples.", ""),
    "M5": ("Total variation's problem is solved by an iteration.", ""),
    "M6": ("A network is quicker than solving slice by slice.", "seconds per slice of `mrirecon evaluate tv RUN`"),
    "M7": (
        "Solvers' images are worse targets than measured ones.",
        "no study yet: needs files with a solver's targets",
    ),
    "M8": ("The model shown: U-Net, group norm, Adam.", "`configs/ablation/lecture_vs_fastmri.yaml`"),
}


def sources() -> list[Path]:
    """The notebooks' sources, those in Spanish last."""
    return [*sorted(NOTEBOOKS.glob("*.py")), *sorted(NOTEBOOKS.glob("es/*.py"))]


def notebook(source: Path) -> nbformat.NotebookNode:
    """Return the notebook of a source: no outputs, numbered cells, the kernel of whoever opens it."""
    made = jupytext.read(source)
    made.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for i, cell in enumerate(made.cells):
        cell["id"] = f"cell-{i:02}"
    return made


def text_of(made: nbformat.NotebookNode) -> str:
    """Return what stands in the .ipynb file."""
    return nbformat.writes(made, version=4) + "\n"


def items() -> list[str]:
    """The lecture's items by number, in its order."""
    return [f"{group}{i}" for group, n in GROUPS.items() for i in range(1, n + 1)]


def shown() -> dict[str, list[str]]:
    """Return for each item the notebooks and sections with a cell that bears its number."""
    found: dict[str, list[str]] = defaultdict(list)
    for source in sorted(NOTEBOOKS.glob("*.py")):
        section = ""
        for cell in notebook(source).cells:
            if cell.cell_type == "markdown" and (heading := re.search(r"^#+ (.*)", cell.source, re.M)):
                section = heading[1]
            for item in cell.metadata.get("tags", ()):
                place = f"[{source.stem[:2]}]({source.stem}.ipynb) {section}"
                if place not in found[item]:
                    found[item].append(place)
    return found


def tested() -> dict[str, tuple[str, str]]:
    """Return for each identity its test, and what the lecture says: the first line of the test's docstring."""
    found = {}
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (number := re.match(r"test_([a-z]\d+)_", node.name)):
                words = (ast.get_docstring(node) or "").split("\n")[0]
                found.setdefault(number[1].upper(), (f"{path.name}::{node.name}", words))
    return found


def table() -> str:
    """Return the table: item, what the lecture says, where it is shown, which test holds it, which study decides it."""
    cells, tests = shown(), tested()
    decided = defaultdict(list)
    for claim in CLAIMS:
        study = f"`configs/ablation/{claim.grid}.yaml`" if claim.grid else f"no study yet: needs {claim.needs}"
        decided[claim.id.rstrip("b")].append((claim.text, study))
    for item, entry in MRI.items():
        decided[item].append(entry)
    lines = ["| item | the lecture says | shown in | test | study |", "|---|---|---|---|---|"]
    for item in items():
        test, doc = tests.get(item, ("", ""))
        said = dict.fromkeys([*filter(None, [doc]), *(text for text, _ in decided[item])])
        studies = dict.fromkeys(study for _, study in decided[item] if study)
        words = " ".join(said).replace("|", "\\|")
        row = [item, words, "; ".join(cells.get(item, [])), f"`{test}`" if test else "", "; ".join(studies)]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def with_table(readme: str) -> str:
    """Return the text of the README with the table of now."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


def write() -> None:
    """Write the .ipynb files and the table."""
    for source in sources():
        source.with_suffix(".ipynb").write_text(text_of(notebook(source)))
    readme = NOTEBOOKS / "README.md"
    readme.write_text(with_table(readme.read_text()))


def run(output: Path, names: list[str]) -> None:
    """Execute notebooks whose names begin so (none: all; `es/04`: a Spanish one) and store them as HTML."""
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    output.mkdir(parents=True, exist_ok=True)
    for source in sources():
        name = source.relative_to(NOTEBOOKS).with_suffix("").as_posix()
        if not name.startswith(tuple(names)) if names else "/" in name:
            continue
        start, made = time.monotonic(), notebook(source)
        NotebookClient(made, timeout=3600, kernel_name="python3").execute()
        (output / f"{name.replace('/', '-')}.html").write_text(HTMLExporter().from_notebook_node(made)[0])
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(Path(sys.argv[2]), sys.argv[3:])
    else:
        write()
