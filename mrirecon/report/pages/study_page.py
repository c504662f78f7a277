"""The page of a study: one HTML file that needs no server and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrirecon.errors import InputError
from mrirecon.files import write_text
from mrirecon.report.figures.drawing import NothingToDrawError, as_svg
from mrirecon.report.figures.example_images import data_uri, example_images
from mrirecon.report.figures.study import StudyFigure, study_figures, write_study_figures
from mrirecon.report.pages.html import render
from mrirecon.report.pages.html_table import pairs
from mrirecon.report.pages.inference_tables import claims_table, family_table
from mrirecon.report.pages.numbers import number, percent
from mrirecon.report.pages.study_tables import cost_table, leaderboard, time_table
from mrirecon.report.pages.study_words import setting, verdict_sentences

__all__ = ["write_study_figures", "write_study_page"]

SCHEMA = 1
Study = Mapping[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A figure inside a page, or why there is none."""

    name: str
    title: str
    caption: str
    source: str  # data URI, empty: nothing to draw
    why_not: str = ""


def write_study_page(
    study: Study, examples: Mapping[str, Any] | None, path: Path, figures: Sequence[Path] = ()
) -> None:
    """Write the page; parts whose data are missing say why they are.

    Args:
        study: Schema 1, as in results.json.
        examples: `slices`: labels, `target` and `zero_filled` (n, h, w), `cells`: name -> (n, h, w); None: none.
        path: The HTML file.
        figures: What `write_study_figures` has returned for the same study: these need not be drawn again.

    Raises:
        InputError: The study is of another schema.
    """
    if study.get("schema") != SCHEMA:
        raise InputError(
            f"the study has schema {study.get('schema')}; this version reads {SCHEMA}: "
            "make its report with the version that ran it"
        )
    files = {file.stem: file for file in figures if file.suffix == ".svg"}
    drawn = {figure.name: draw(figure, files.get(figure.name)) for figure in study_figures(study)}
    shown = example_images(examples) if examples and len(examples["slices"]) else None
    write_text(path, render("study.html", study=study, figures=drawn, examples=shown, **_parts(study)))


def draw(figure: StudyFigure, file: Path | None = None) -> Drawn:
    """The figure as an SVG inside the page; from its file where there is one."""
    try:
        svg = file.read_text(encoding="utf-8") if file else as_svg(figure.draw())
    except NothingToDrawError as missing:
        return Drawn(figure.name, figure.title, "", "", str(missing))
    return Drawn(figure.name, figure.title, figure.caption, data_uri("image/svg+xml", svg.encode()))


def _parts(study: Study) -> dict[str, Any]:
    """Tables and sentences that the template places."""
    second, claims = study.get("second") or {}, study.get("claims") or ()
    return {
        "verdict": verdict_sentences(study),
        "setting": setting(study),
        "leaders": leaderboard(study, study["cells"]),
        "families": _families(study.get("families") or (), "family"),
        "claims": claims_table(claims, tested=True),
        "untested": claims_table(claims, tested=False),
        "costs": cost_table(study["cells"]),
        "times": time_table(study, study["cells"]) if study.get("targets") else None,
        "second_leaders": leaderboard(study, second["cells"], "second-leaders") if second.get("cells") else None,
        "second_families": _families(second.get("families") or (), "second-family"),
        "failures": [(cell["cell"], cell["error"]) for cell in study["cells"] if cell.get("error")],
        "provenance": _provenance(study),
    }


def _families(families: Any, prefix: str) -> list[tuple[Mapping[str, Any], Any]]:
    return [(family, family_table(family, f"{prefix}-{i}")) for i, family in enumerate(families, 1)]


def _provenance(study: Study) -> list[tuple[str, str]]:
    """Everything that a reader needs to repeat the study, as pairs of name and text."""
    keys = ("command", "created", "model", "budget", "protocol", "reference", "seeds", "margin", "targets")
    facts = {key: study.get(key) for key in keys}
    targets = [f"{percent(t['share'])}: SSIM {number(t.get('ssim'), '.4f')}" for t in study.get("targets") or ()]
    tuning = dict(study.get("tuning") or {})
    spaces = _spaces(tuning.pop("spaces", None) or {})
    return pairs(
        {
            **facts,
            "targets": targets,
            "factors": study.get("factors"),
            "data": study.get("data"),
            "tuning": {**tuning, "space": spaces},
            **(study.get("provenance") or {}),
        }
    )


def _spaces(spaces: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Ranges with the cells that have them."""
    cells: dict[str, list[str]] = {}
    for cell, space in spaces.items():
        ranges = ", ".join(f"{key} {low:g} to {high:g}" for key, (low, high) in space.items())
        cells.setdefault(ranges, []).append(cell)
    return [
        f"{ranges} ({'all cells' if len(names) == len(spaces) else ', '.join(names)})"
        for ranges, names in cells.items()
    ]
