"""The figures of a study: what they are called, what they show, and as files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mrirecon.report.figures import study_curves as curves
from mrirecon.report.figures.drawing import NothingToDrawError, laid_out, save, styled
from mrirecon.report.figures.effects import draw_effects
from mrirecon.report.figures.scores import draw_heat_map, draw_volumes
from mrirecon.report.figures.study_curves import draw_profile
from mrirecon.report.figures.tuning import draw_best_of_k, draw_lr_sensitivity
from mrirecon.report.numbers import capital, percent

Study = Mapping[str, Any]
FORMATS = ("png", "svg")
_BAND = "Line: median over seeds; band: 10th to 90th percentile. Panels share their axes."
_CURVES = (
    (
        "curve-ssim",
        curves.SSIM,
        f"{_BAND} Dotted: the zero-filled image; what is far below it, and below the ends of all lines, is cut off.",
    ),
    ("curve-loss", curves.VAL_LOSS, _BAND),
    ("trace-train-loss", curves.TRAIN_LOSS, _BAND),
    ("trace-grad-norm", curves.GRAD_NORM, f"Euclidean norm over all weights, before clipping. {_BAND}"),
    ("trace-update-ratio", curves.UPDATE_RATIO, f"Norm of one step's change over that of the weights. {_BAND}"),
)


@dataclass(frozen=True)
class StudyFigure:
    """One figure: its file name without ending, what it shows in a few words, how to read it."""

    name: str
    title: str
    caption: str
    make: Callable[[], Figure]

    def draw(self) -> Figure:
        """Make the figure in the common style.

        Raises:
            NothingToDrawError: Its data are not there.
        """
        with styled():
            return laid_out(self.make())


def study_figures(study: Study) -> Iterator[StudyFigure]:
    """Yield all figures that a study may have, drawn when asked for."""
    several = (study.get("data") or {}).get("acceleration") or ()
    averaged = f" Means of {' and '.join(f'{r:g}x' for r in several)}." if len(several) > 1 else ""
    yield StudyFigure(
        "heat-map",
        "Test SSIM",
        f"Mean over seeds and volumes with its 95 % interval; bold: highest; dashed frame: the reference.{averaged}",
        partial(draw_heat_map, study),
    )
    for name, curve, caption in _CURVES:
        yield StudyFigure(name, capital(curve.label), caption, partial(curves.draw_study_curves, study, curve))
    yield StudyFigure(
        "lr-sensitivity",
        "Loss over learning rate",
        "The sweep runs through the winner at its other values; crosses at the top have diverged.",
        partial(draw_lr_sensitivity, study),
    )
    yield StudyFigure(
        "best-of-k",
        "Expected best of k trials",
        "What k trials would have found on average. A diverged trial counts as the worst finite loss of the study.",
        partial(draw_best_of_k, study),
    )
    for target in study.get("targets") or ():
        ssim = "" if target.get("ssim") is None else f", SSIM {target['ssim']:.4f}"
        yield StudyFigure(
            f"time-to-target-{100 * target['share']:g}",
            f"{percent(target['share'])} of the gap from zero-filled to the reference{ssim}",
            "Share of the seeds whose validation SSIM (running median of three) has reached the target.",
            partial(draw_profile, study, target["share"]),
        )
    yield StudyFigure(
        "volumes",
        "Volumes, paired",
        "A dot is a test volume, a line joins the same one, a bar is the mean. "
        f"Right: differences from the reference; grey band: counts as equivalent.{averaged}",
        partial(draw_volumes, study),
    )
    for number, family in enumerate(study.get("families") or (), 1):
        caption = (
            "Dot: first minus second, with the interval that holds for all of the family at once and decides alone."
        )
        yield StudyFigure(f"effects-{number}", capital(family["name"]), caption, partial(draw_effects, family))


def write_study_figures(study: Study, folder: Path) -> list[Path]:
    """Write all figures of a study that have data, as PNG and SVG.

    Args:
        study: Schema 1, as in results.json.
        folder: Is made where it is missing; files of the same names are replaced.

    Returns:
        The files.
    """
    written = []
    for item in study_figures(study):
        try:
            figure = item.draw()
        except NothingToDrawError:
            continue
        for ending in FORMATS:
            path = folder / f"{item.name}.{ending}"
            save(figure, path)
            written.append(path)
    return written
