"""The page of a study: one HTML file that needs no server and no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrirecon.errors import InputError
from mrirecon.files import write_text
from mrirecon.report.figures.drawing import as_svg
from mrirecon.report.figures.study import StudyFigure, study_figures, write_study_figures
from mrirecon.report.numbers import number, percent, setting
from mrirecon.report.pages.example_images import example_images
from mrirecon.report.pages.html import Drawn, drawn, pairs, render
from mrirecon.report.pages.study_tables import (
    NOT_TESTED,
    claims_table,
    cost_table,
    family_table,
    leaderboard,
    time_table,
)

__all__ = ["write_study_figures", "write_study_page"]

SCHEMA = 1
Study = Mapping[str, Any]
_CLAIMS = ("SUPPORTED", "REFUTED", "INCONCLUSIVE", NOT_TESTED)


def write_study_page(
    study: Study, examples: Mapping[str, Any] | None, path: Path, figures: Sequence[Path] = ()
) -> None:
    """Write the page of a study; parts whose data are missing say why they are.

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
    plots = {figure.name: _drawn(figure, files.get(figure.name)) for figure in study_figures(study)}
    shown = example_images(examples) if examples and len(examples["slices"]) else None
    write_text(path, render("study.html", study=study, figures=plots, examples=shown, **_parts(study)))


def _drawn(figure: StudyFigure, file: Path | None) -> Drawn:
    """Return the figure for the page; from its SVG file where there is one."""

    def svg() -> str:
        return file.read_text(encoding="utf-8") if file else as_svg(figure.draw())

    return drawn(figure.name, figure.title, figure.caption, svg)


def _parts(study: Study) -> dict[str, Any]:
    """Return the tables and sentences that the template places."""
    data, second, claims = study.get("data") or {}, study.get("second") or {}, study.get("claims") or ()
    volumes = f"{data.get('n_test', '?')} test volumes of {data.get('n_patients_test', '?')} patients"
    origins = ", ".join(data.get("origins") or ["origin not recorded"])
    protocol = f"protocol {study['protocol']}" if study.get("protocol") else ""
    return {
        "verdict": [*study["verdict"], *([_claims_in_words(claims)] if claims else [])],
        "setting": setting(study, f"{volumes} ({origins})", protocol),
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


def _claims_in_words(claims: Sequence[Mapping[str, Any]]) -> str:
    counts = {word: sum(claim["verdict"] == word for claim in claims) for word in _CLAIMS}
    return f"Of {len(claims)} claims, {', '.join(f'{n} {word.lower()}' for word, n in counts.items() if n)}."


def _families(families: Any, prefix: str) -> list[tuple[Mapping[str, Any], Any]]:
    return [(family, family_table(family, f"{prefix}-{i}")) for i, family in enumerate(families, 1)]


def _provenance(study: Study) -> list[tuple[str, str]]:
    """Return everything that a reader needs to repeat the study, as pairs of name and text."""
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
    """Return the tuned ranges, each with the cells that have it."""
    cells: dict[str, list[str]] = {}
    for cell, space in spaces.items():
        ranges = ", ".join(f"{key} {low:g} to {high:g}" for key, (low, high) in space.items())
        cells.setdefault(ranges, []).append(cell)
    return [
        f"{ranges} ({'all cells' if len(names) == len(spaces) else ', '.join(names)})"
        for ranges, names in cells.items()
    ]
