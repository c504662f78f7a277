"""The page of a study: one HTML file that needs no server and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrirecon.errors import InputError
from mrirecon.files import write_text
from mrirecon.report.figures.drawing import NothingToDrawError, as_svg
from mrirecon.report.figures.effects import NO_VERDICT, comparison_names, verdict_of
from mrirecon.report.figures.study import StudyFigure, study_figures, write_study_figures
from mrirecon.report.numbers import capital, interval, number, percent
from mrirecon.report.pages.example_images import data_uri, example_images
from mrirecon.report.pages.html import pairs, render
from mrirecon.report.pages.study_tables import claims_table, cost_table, family_table, leaderboard, time_table

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


_ORDER = ("BETTER", "WORSE", "EQUIVALENT", "INCONCLUSIVE", NO_VERDICT)
_CLAIMS = ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "NOT TESTED")
_MOST_NAMES = 6


def verdict_sentences(study: Mapping[str, Any]) -> list[str]:
    """Which cell leads, what each family decides, how the claims stand, and what all of it is conditional on.

    The study's own `verdict`, where the analysis has written one, takes the place of all but the claims.
    """
    claims = [_claims(study["claims"])] if study.get("claims") else []
    if study.get("verdict"):
        return [*study["verdict"], *claims]
    decided = [_family(family) for family in study.get("families") or () if family["comparisons"]]
    condition = [f"All of it is {study['conditional']}."] if study.get("conditional") else []
    return [_leader(study), *decided, *claims, *condition]


def setting(study: Mapping[str, Any]) -> str:
    """Data, masks, model and budget in one line: no number means anything without them."""
    data = study.get("data") or {}
    accelerations = " and ".join(f"{r:g}x" for r in data.get("acceleration") or ())
    parts = [
        f"{data.get('n_test', '?')} test volumes of {data.get('n_patients_test', '?')} patients "
        f"({', '.join(data.get('origins') or ['origin not recorded'])})",
        " ".join(text for text in (f"{data['mask']} mask" if data.get("mask") else "", accelerations) if text),
        study.get("model"),
        study.get("budget"),
        f"protocol {study['protocol']}" if study.get("protocol") else "",
    ]
    return "; ".join(str(part) for part in parts if part)


def _leader(study: Mapping[str, Any]) -> str:
    cells = [cell for cell in study["cells"] if ((cell.get("final") or {}).get("ssim") or {}).get("mean") is not None]
    if not cells:
        return "No cell has been rerun yet, so there is no verdict."
    best = max(cells, key=lambda cell: cell["final"]["ssim"]["mean"])
    ssim = best["final"]["ssim"]
    limits = interval(ssim, ".4f")
    score = f"{ssim['mean']:.4f}" + (f" {limits}" if limits else "")
    zero_filled = (study.get("zero_filled") or {}).get("ssim")
    beside = "" if zero_filled is None else f"; zero-filled has {number(zero_filled, '.4f')}"
    seeds = best.get("n_seeds")
    over = "" if not seeds else " with one seed" if seeds == 1 else f" over {seeds} seeds"
    missing = len(study["cells"]) - len(cells)
    left = f" {missing} of {len(study['cells'])} cells have no scores." if missing else ""
    return f"The highest mean test SSIM is that of {best['cell']}: {score}{over}{beside}.{left}"


def _family(family: Mapping[str, Any]) -> str:
    names: dict[str, list[str]] = {}
    for name, item in zip(comparison_names(family), family["comparisons"], strict=True):
        names.setdefault(verdict_of(item), []).append(name)
    found = [f"{word.lower()}: {_listed(names[word])}" for word in _ORDER if word in names]
    return f"{capital(family['name'])}: {'; '.join(found)}."


def _claims(claims: Sequence[Mapping[str, Any]]) -> str:
    counts = {word: sum(claim["verdict"] == word for claim in claims) for word in _CLAIMS}
    found = [f"{n} {word.lower()}" for word, n in counts.items() if n]
    return f"Of {len(claims)} claims, {', '.join(found)}."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown
