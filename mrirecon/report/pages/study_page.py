"""The page of a study: one HTML file that needs no server and no network, with example slices of all cells."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mrirecon.errors import InputError
from mrirecon.files import write_text
from mrirecon.report.figures.drawing import as_svg
from mrirecon.report.figures.slices import COLOURS, ErrorScale, error_scale
from mrirecon.report.figures.study import StudyFigure, study_figures, write_study_figures
from mrirecon.report.pages.html import Drawn, data_uri, drawn, pairs, render
from mrirecon.report.pages.study_tables import (
    NOT_TESTED,
    claims_table,
    cost_table,
    family_table,
    leaderboard,
    time_table,
    variance_tables,
)
from mrirecon.report.words import number, percent, setting

__all__ = ["write_study_figures", "write_study_page"]

SCHEMA = 1
Study = Mapping[str, Any]
_CLAIMS = ("SUPPORTED", "REFUTED", "BELOW MARGIN", "INCONCLUSIVE", NOT_TESTED)
# Of example slices:
_WHITE_PERCENTILE = 99.5  # bright fat shall not darken the rest
_SMALL = 256  # pixels; narrower images are shown enlarged, so their pixels as squares
_MOST_PIXELS = 384  # a larger side is drawn at half, a third, ... of its size


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
        "variances": variance_tables(study),
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
    keys = ("command", "created", "model", "budget", "protocol", "reference", "seeds", "margin", "diverged", "targets")
    facts = {key: study.get(key) for key in keys}
    targets = [f"{percent(t['share'])}: SSIM {number(t.get('ssim'), '.4f')}" for t in study.get("targets") or ()]
    tuning = dict(study.get("tuning") or {})
    spaces = _spaces(tuning.pop("spaces", None) or {})
    return pairs(
        {
            **facts,
            "targets": targets,
            "verdicts read": [f"{r['when']} at {r['n_seeds']} seeds" for r in study.get("readings") or ()],
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


def example_images(examples: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pictures that the viewer of a page shows, ready for JSON.

    Grey values run from 0 to the 99.5th percentile of a slice's target, the same for all images of the slice. Errors of
    a slice are on one scale of colours for all cells too, that of its zero-filled image (see `error_scale`): a cell
    whose training failed does not darken the others.

    Args:
        examples: `slices` (labels), `target` and `zero_filled` `(n, h, w)`, `cells`: name -> `(n, h, w)`.

    Returns:
        `slices`, `scales` and `bars` (of the errors of each slice: words, a colour bar), `small` (fewer pixels than the
        page shows), `target`: n pictures, `images`: list of `name`, `pictures`, `errors`, `relative` (error of each
        slice, Euclidean, as a share of the target's norm), zero-filled first. Pictures are data URIs.
    """
    target = np.asarray(examples["target"], dtype=np.float32)
    named = {"zero-filled": examples["zero_filled"], **examples["cells"]}
    images = {name: np.asarray(values, dtype=np.float32) for name, values in named.items()}
    white = np.percentile(target, _WHITE_PERCENTILE, axis=(1, 2))
    white = np.where(white > 0, white, np.maximum(target.max(axis=(1, 2)), np.finfo(np.float32).tiny))
    errors = {name: np.abs(values - target) for name, values in images.items()}
    scales = [_scale({name: error[i] for name, error in errors.items()}, target[i]) for i in range(len(target))]
    return {
        "slices": [str(name) for name in examples["slices"]],
        "scales": [str(scale) for scale in scales],
        "bars": [_png(scale.bar()) for scale in scales],
        "small": target.shape[2] < _SMALL,
        "target": _pictures(target, white),
        "images": [
            {
                "name": name,
                "pictures": _pictures(images[name], white),
                "errors": [_picture(scale.levels(e), COLOURS) for scale, e in zip(scales, errors[name], strict=True)],
                "relative": _relative(errors[name], target),
            }
            for name in images
        ],
    }


def _scale(errors: Mapping[str, np.ndarray], target: np.ndarray) -> ErrorScale:
    """Return the error scale of one slice: that of its zero-filled image, or of all cells where this has no error.

    The zero-filled image has no error under a mask that keeps everything.
    """
    zero_filled = next(iter(errors))
    return error_scale([(zero_filled, errors[zero_filled])] if errors[zero_filled].any() else [*errors.items()], target)


def _relative(error: np.ndarray, target: np.ndarray) -> list[float | None]:
    norms = np.linalg.norm(target, axis=(1, 2))
    return [float(np.linalg.norm(e) / n) if n > 0 else None for e, n in zip(error, norms, strict=True)]


def _pictures(images: np.ndarray, white: np.ndarray) -> list[str]:
    grey = np.clip(np.nan_to_num(images) / white[:, None, None], 0, 1)
    return [_picture(np.round(255 * image).astype(np.uint8)) for image in grey]


def _picture(levels: np.ndarray, colours: np.ndarray | None = None) -> str:
    """Return a picture of levels from 0 to 255 `(height, width)`: grey, or places in a table of colours `(256, 3)`."""
    picture = Image.fromarray(levels)
    if (shrink := -(-max(levels.shape) // _MOST_PIXELS)) > 1:
        picture = picture.reduce(shrink)
    if colours is not None:
        picture.putpalette(colours.tobytes())
    return _png(picture)


def _png(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return data_uri("image/png", file.getvalue())
