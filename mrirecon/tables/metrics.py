"""The metrics of images: what is summed over the slices of a volume, how it becomes a score, how that is written.

A score belongs to a volume. PSNR and NMSE are ratios of sums, so what is gathered from slices and processes is not
scores but columns: named numbers of a slice. Metrics that need the same numbers name the same function, which runs
once.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mrirecon.tables.entry import named

OBJECT_MASK = "object_mask"  # what a metric may need besides target and image
OBJECT_SIZE = "n_object_windows"  # SSIM windows whose centre lies inside the object; tells one mask from another


@dataclass(frozen=True)
class Metric:
    """One metric of images.

    `of_slice` and `of_volume` are functions or paths `"package.module:name"`, imported when a slice is scored.
    """

    label: str  # in tables and figures
    help: str
    columns: tuple[str, ...]  # what `of_slice` gives, in its order; numbers of one slice, summed over a volume's slices
    of_slice: str | Callable[..., Any]  # of a `SlicePair`; a tuple of numbers
    of_volume: str | Callable[..., Any]  # of the sums by column, the number of slices and the data range; the score
    digits: str  # format of a score in tables
    higher_is_better: bool
    perfect: float  # score of images that equal their targets; none is better
    worst: float | None = None  # what no score is beyond; None: it has no end
    unit: str = ""
    needs: tuple[str, ...] = ()  # OBJECT_MASK: the file's mask of the object is read, where there is one
    smallest: int = 1  # pixels on a side of the smallest image it can score
    default: bool = True  # scored unless others are asked for, and in training
    in_boxes: bool = False  # also scored inside the boxes of annotations (`mrirecon.evaluation.regions`)
    appended: bool = True  # its columns stand behind those of the tables' first version (volumes.csv, curves.csv, ...)


METRICS: dict[str, Metric] = {
    "ssim": Metric(
        label="SSIM",
        help="structural similarity (Wang et al. 2004) of all windows inside the image, mean over slices",
        columns=("ssim",),
        of_slice="mrirecon.evaluation.metrics:ssim_of_slice",
        of_volume="mrirecon.evaluation.metrics:ssim_of_volume",
        digits=".4f",
        higher_is_better=True,
        perfect=1.0,
        worst=-1.0,
        smallest=7,
        in_boxes=True,
        appended=False,
    ),
    "ssim_object": Metric(
        label="object SSIM",
        help="mean of the same map over the windows whose centre lies inside the object, over slices that have one",
        columns=("ssim_object", "n_object_slices", OBJECT_SIZE),
        of_slice="mrirecon.evaluation.metrics:ssim_object_of_slice",
        of_volume="mrirecon.evaluation.metrics:ssim_object_of_volume",
        digits=".4f",
        higher_is_better=True,
        perfect=1.0,
        worst=-1.0,
        needs=(OBJECT_MASK,),
        smallest=7,
    ),
    "psnr": Metric(
        label="PSNR",
        help="peak signal-to-noise ratio, from the mean squared error over the volume",
        columns=("squared_error", "target_energy", "n_pixels"),
        of_slice="mrirecon.evaluation.metrics:error_sums",
        of_volume="mrirecon.evaluation.metrics:psnr_of_volume",
        digits=".2f",
        higher_is_better=True,
        perfect=math.inf,
        unit="dB",
        in_boxes=True,
        appended=False,
    ),
    "nmse": Metric(
        label="NMSE",
        help="squared error over the energy of the target, both over the volume",
        columns=("squared_error", "target_energy", "n_pixels"),
        of_slice="mrirecon.evaluation.metrics:error_sums",
        of_volume="mrirecon.evaluation.metrics:nmse_of_volume",
        digits=".4f",
        higher_is_better=False,
        perfect=0.0,
        in_boxes=True,
        appended=False,
    ),
    "hfen": Metric(
        label="HFEN",
        help="high-frequency error norm (Ravishankar and Bresler 2011): relative error of edges and fine features",
        columns=("edge_error", "edge_energy"),
        of_slice="mrirecon.evaluation.metrics:edge_sums",
        of_volume="mrirecon.evaluation.metrics:hfen_of_volume",
        digits=".4f",
        higher_is_better=False,
        perfect=0.0,
        default=False,  # takes about twice the time of all others
    ),
}


def default_metrics() -> list[str]:
    """The metrics that are scored unless others are asked for."""
    return [name for name, metric in METRICS.items() if metric.default]


def chosen_metrics(names: Iterable[str] | None = None) -> list[str]:
    """`names` in the order of the table, each once; none: the default ones.

    Raises:
        InputError: An unknown name.
    """
    wanted = list(names or ())
    for name in wanted:
        named(METRICS, name, "metric")
    return [name for name in METRICS if name in wanted] if wanted else default_metrics()


def validation_metrics(monitor: str) -> list[str]:
    """Return the metrics that training scores at each validation: the default ones, and the one that is watched."""
    return chosen_metrics([*default_metrics(), *([monitor] if monitor in METRICS else [])])


def in_files(names: Iterable[str]) -> list[str]:
    """The order of their columns in files: those of the first version of the tables, then what came later."""
    given = set(names)
    return sorted((name for name in METRICS if name in given), key=lambda name: METRICS[name].appended)


def heading_of(name: str) -> str:
    """`PSNR (dB)`."""
    metric = METRICS[name]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def label_of(name: str) -> str:
    """Return the label of a metric; another name (loss, steps) as it is."""
    return METRICS[name].label if name in METRICS else name


def unit_of(name: str) -> str:
    """Return the unit that stands behind a number of a metric, with a space; empty where there is none."""
    return f" {METRICS[name].unit}" if name in METRICS and METRICS[name].unit else ""


def digits_of(name: str, otherwise: str = ".4g") -> str:
    """The format of a metric's scores; `otherwise` of anything else."""
    return METRICS[name].digits if name in METRICS else otherwise


def sentence(scores: dict[str, float]) -> str:
    """`SSIM 0.9123, PSNR 33.10 dB, NMSE 0.0123`."""
    return ", ".join(f"{label_of(name)} {value:{digits_of(name)}}{unit_of(name)}" for name, value in scores.items())


def needed(names: Sequence[str], what: str) -> bool:
    """Say whether one of the metrics needs `what`."""
    return any(what in METRICS[name].needs for name in names)


def shortfall(name: str, score: float) -> float:
    """Return the distance of a score from a perfect one, above 0 as a loss is; infinite where it is not finite.

    Of decibels, which have no perfect one, the ratio of amplitudes that they stand for: RMSE over the peak, as fastMRI
    and scikit-image define PSNR.
    """
    if not math.isfinite(score):
        return math.inf
    metric = METRICS[name]
    return abs(metric.perfect - score) if math.isfinite(metric.perfect) else float(10 ** (-score / 20))


def shortfall_label(name: str) -> str:
    """Return the words for what `shortfall` gives."""
    metric = METRICS[name]
    if not math.isfinite(metric.perfect):
        return f"RMSE / peak ({metric.label})"
    return f"{metric.perfect:g} − {metric.label}" if metric.perfect else metric.label


def similarities(names: Iterable[str]) -> list[str]:
    """Return those of `names` of which 1 is perfect: SSIM, on the whole grid and inside the object, and their like."""
    given = set(names)
    return [name for name, metric in METRICS.items() if name in given and metric.perfect == 1]
