"""Regions that readers drew: boxes of fastMRI+'s table or of a file's attribute `annotations`, or its masks `regions`.

Boxes have two conventions. fastMRI+ (Zhao et al., Scientific Data 2022) annotates images that are flipped up-down
against the reconstruction arrays of fastMRI: its `y` counts rows from the bottom of the array. The attribute counts
them from the top, as the array is stored: no flip. In both, `slice` counts from 0, and a box begins at column `x` and
row `y`. Masks are whole numbers in the array as stored, 0 where there is no region.
"""

import csv
import json
import math
import operator
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from mrirecon.errors import InputError, did_you_mean
from mrirecon.evaluation.results import ZERO_FILLED
from mrirecon.evaluation.stats import bootstrap_ci
from mrirecon.evaluation.summary import LEVEL
from mrirecon.files import read_table, replacing
from mrirecon.tables.metrics import METRICS

if TYPE_CHECKING:
    from mrirecon.evaluation.metrics import SlicePair

ATTRIBUTE = "annotations"  # of a file, JSON
OF_FILES = "attribute"  # in place of a table's path: each file's own
OF_MASKS = "masks"  # the data set `regions` of each file
NAMES = "region_labels"  # attribute, JSON: what the numbers of the masks are called
_NUMBERS = ("x", "y", "width", "height")
COLUMNS = ("file", "slice", "study_level", *_NUMBERS, "label")
_LEVELS = {"yes": True, "no": False, "": False}


@dataclass(frozen=True)
class Box:
    """Pixels of a slice: rows `y` to `y + height - 1` and columns `x` to `x + width - 1` of the array as stored."""

    file: str  # as written; the volume's name once it is placed
    slice_idx: int  # from 0
    label: str
    x: int
    y: int
    width: int
    height: int
    annotation: int  # line of the table, place in the attribute's list, counted from 1, or number in the masks
    of_mask: bool = False  # it bounds the pixels of that number in the masks, which alone count

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


@dataclass(frozen=True)
class Annotations:
    """The content of one source: its boxes, in its own convention, and how many lines are about a whole study."""

    boxes: tuple[Box, ...]
    n_study_level: int
    flipped: bool  # its rows are counted from the bottom of the stored array


@dataclass(frozen=True)
class Shape:
    """The size of a volume and its scored slices, in which boxes are placed."""

    height: int
    width: int
    slices: Collection[int]  # that are scored


def read_annotations(path: str | Path) -> Annotations:
    """Read a table as fastMRI+ has them, with the columns of `COLUMNS`.

    Raises:
        InputError: It cannot be read, a column is missing, or a value is no whole number.
    """
    try:
        columns, rows = read_table(path)
    except OSError as error:
        raise InputError(
            f"--regions {path} cannot be read ({error.strerror or error}); give a table of annotations as fastMRI+ "
            f"has them, or {OF_FILES} for those of the files"
        ) from None
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]}{did_you_mean(missing[0], columns)}; "
            f"annotations have the columns {','.join(COLUMNS)}, as fastMRI+'s"
        )
    return _annotations(rows, str(path), "line", 2, flipped=True)


def parse_annotations(text: Any, name: str) -> Annotations:
    """Read the attribute `annotations` of the volume `name`: a JSON list of objects named as fastMRI+'s columns.

    `file` and `study_level` may be left out; a `file` is not looked at.

    Raises:
        InputError: It is no such list, a name is missing, or a value is no whole number.
    """
    where = f"{name}: its attribute '{ATTRIBUTE}'"
    try:
        values = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON ({str(error)[:100]}); write a list of objects, or remove it") from None
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InputError(f"{where} is no list of objects; write one object for each box, or remove it")
    return _annotations([{"study_level": "", **value, "file": name} for value in values], where, "object", 1, False)


def mask_regions(masks: np.ndarray, name: str, slices: Collection[int], text: Any = None) -> list[Box]:
    """The boxes that bound each number of the masks of the volume `name`, in each slice that is scored.

    In a slice of the numbers 1, 2, 3, ... they are those of `scipy.ndimage.find_objects`.

    Args:
        masks: Whole numbers `(slices, h, w)`, 0 for no region.
        name: Of the volume.
        slices: That are scored.
        text: JSON object of labels by number, the attribute `region_labels`; None: regions are called by their number.

    Raises:
        InputError: Numbers below 0, or labels that are no such object.
    """
    if masks.size and masks.min() < 0:
        raise InputError(f"{name}: its 'regions' hold {masks.min()}; whole numbers from 0 (no region) on are needed")
    try:
        labels = json.loads(text) if text is not None else {}
    except (TypeError, ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(label, str) for label in labels.values()):
        raise InputError(
            f"{name}: its attribute '{NAMES}' is no JSON object of texts, as "
            '{"1": "tumour"}; write one, or remove it'
        )
    found = []
    for i in slices:
        for number in np.unique(masks[i][masks[i] > 0]).tolist():
            rows, columns = np.nonzero(masks[i] == number)
            y, x = int(rows.min()), int(columns.min())
            height, width = int(rows.max()) - y + 1, int(columns.max()) - x + 1
            label = " ".join(labels.get(str(int(number)), f"region {int(number)}").split())
            found.append(Box(name, i, label, x, y, width, height, int(number), of_mask=True))
    return found


def place(annotations: Sequence[Annotations], shapes: Mapping[str, Shape]) -> tuple[list[Box], str]:
    """Boxes in the arrays of the volumes that are scored, and one line that says what became of the others.

    Boxes partly outside of the image are cut. Left out are those wholly outside or without area, of files or slices
    that are not scored, and doubles.

    Args:
        annotations: Of one or several sources.
        shapes: By the volumes' names, paths relative to the data folder. A `file` is such a path or a bare file
            name, with `.h5` or without.

    Raises:
        InputError: A bare file name that several volumes have.
    """
    names = _by_word(shapes)
    counts: Counter[str] = Counter(study=sum(source.n_study_level for source in annotations))
    unknown: set[str] = set()
    placed: dict[tuple[Any, ...], Box] = {}
    for source in annotations:
        for box in source.boxes:
            found = names.get(box.file, ())
            if len(found) > 1:
                raise InputError(
                    f"the regions' file '{box.file}' may be {found[0]} or {found[1]}; write the path, as in volumes.csv"
                )
            if not found:
                counts["file"] += 1
                unknown.add(box.file)
                continue
            shape = shapes[found[0]]
            top = shape.height - box.y - box.height if source.flipped else box.y
            inside = _cut(replace(box, file=found[0], y=top), shape)
            key = (found[0], box.slice_idx, box.label, box.x, box.y, box.width, box.height)
            if box.slice_idx not in shape.slices:
                counts["slice"] += 1
            elif box.width == 0 or box.height == 0:
                counts["empty"] += 1
            elif inside is None:
                counts["outside"] += 1
            elif key in placed:
                counts["double"] += 1
            else:
                counts["cut"] += inside.width * inside.height < box.width * box.height
                placed[key] = inside
    return list(placed.values()), _said(list(placed.values()), counts, unknown)


def _annotations(rows: Sequence[Mapping[str, Any]], where: str, unit: str, first: int, flipped: bool) -> Annotations:
    boxes, n_study_level = [], 0
    for number, row in enumerate(rows, first):
        place_of = f"{where}, {unit} {number}"
        missing = [name for name in COLUMNS if row.get(name) is None]
        if missing:
            raise InputError(f"{place_of} has no {missing[0]}; each has {','.join(COLUMNS)}")
        level = str(row["study_level"]).strip().lower().replace("true", "yes").replace("false", "no")
        if level not in _LEVELS:
            raise InputError(f"{place_of}: study_level is '{row['study_level']}', not Yes or No; correct it")
        number_of = {name: row[name] for name in _NUMBERS}
        if _LEVELS[level] and not any(str(value).strip() for value in number_of.values()):
            n_study_level += 1
            continue
        x, y, width, height = (_whole(value, name, place_of) for name, value in number_of.items())
        index = _whole(row["slice"], "slice", place_of)
        for name, value in (("slice", index), ("width", width), ("height", height)):
            if value < 0:
                raise InputError(f"{place_of}: {name} is {value}; it must be at least 0: correct it")
        label = " ".join(str(row["label"]).split())
        boxes.append(Box(str(row["file"]).strip(), index, label, x, y, width, height, number))
    return Annotations(tuple(boxes), n_study_level, flipped)


def _whole(value: Any, name: str, where: str) -> int:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number.is_integer():
        raise InputError(f"{where}: {name} is '{str(value)[:50]}', not a whole number; correct it")
    return int(number)


def _by_word(names: Collection[str]) -> dict[str, list[str]]:
    """The volumes that each word may mean; a whole path means one alone."""
    words: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        for word in {path.name, path.stem}:
            words.setdefault(word, []).append(name)
    return words | {word: [name] for name in names for word in (name, name.removesuffix(".h5"))}


def _cut(box: Box, shape: Shape) -> Box | None:
    left, top = max(box.x, 0), max(box.y, 0)
    right, bottom = min(box.x + box.width, shape.width), min(box.y + box.height, shape.height)
    if right <= left or bottom <= top:
        return None
    return replace(box, x=left, y=top, width=right - left, height=bottom - top)


_LEFT_OUT = {
    "study": "about a whole study, without a box",
    "file": "of files that are not scored ({files})",
    "slice": "of slices that are not scored",
    "outside": "wholly outside of the image",
    "empty": "without area",
    "double": "given twice",
}


def _said(placed: Sequence[Box], counts: Mapping[str, int], unknown: Collection[str]) -> str:
    files = f"{len(unknown)} file{'s' * (len(unknown) != 1)}: {min(unknown, default='')}{', ...' * (len(unknown) > 1)}"
    n_files = len({box.file for box in placed})
    text = f"{len(placed)} box{'es' * (len(placed) != 1)} in {n_files} file{'s' * (n_files != 1)}"
    if counts["cut"]:
        text += f", {counts['cut']} of them cut at the edge of the image"
    left = [f"{counts[key]} {what.format(files=files)}" for key, what in _LEFT_OUT.items() if counts[key]]
    return text + (f"; left out: {', '.join(left)}" if left else "")


# ---- scores inside boxes or masks, for what readers look at rather than the whole image: their table, and means by
# label
#
# Of each region: the mean of the slice's SSIM map (Wang et al. 2004) over the windows whose centre lies inside, PSNR
# with the data range of the volume, and NMSE, both over its pixels.


METRICS_INSIDE = tuple(name for name, metric in METRICS.items() if metric.in_boxes)
_OF_PIXELS = tuple(name for name in METRICS_INSIDE if METRICS[name].smallest == 1)  # SSIM is of windows
_ABOUT = ("file", "slice_idx", "label", "x", "y", "width", "height")


@dataclass(frozen=True)
class RegionResult:
    """Scores inside one box under one mask; a row of regions.csv."""

    box: Box
    patient: str
    mask_draw: int
    n_windows: int  # SSIM windows whose centre lies inside
    scores: Mapping[str, float]  # by metric; SSIM is NaN without such a window
    zero_filled: Mapping[str, float]


def score_box(pair: "SlicePair", box: Box, mask: np.ndarray | None = None) -> tuple[dict[str, float], int]:
    """Score a region of a slice by `METRICS_INSIDE`; also the number of SSIM windows whose centre lies inside.

    Args:
        pair: The whole slice, as windows reach over the box.
        box: Inside of the image.
        mask: Where the region is, bool `(h, w)` of the image; None: all of the box.
    """
    from mrirecon.evaluation.metrics import SlicePair, Target, score_pair, similarity_inside, volume_score  # torch

    target = pair.target
    inside = np.zeros(target.values.shape, dtype=bool)
    inside[box.pixels] = True
    if mask is not None:
        inside &= mask
    total, n_windows = similarity_inside(pair, inside)
    cut = SlicePair(Target(target.values[inside][None], target.data_range), pair.image[inside][None])
    sums = score_pair(cut, _OF_PIXELS).columns
    scores = {"ssim": total / n_windows if n_windows else math.nan}
    scores |= volume_score(_OF_PIXELS, sums, 1, target.data_range).scores
    return {name: scores[name] for name in METRICS_INSIDE}, n_windows


def write_regions(path: Path, results: Iterable[RegionResult]) -> None:
    """Write regions.csv: a row per box and mask draw; floats keep all their digits, `y` is of the array as stored."""
    columns = [
        *(name.removesuffix("_idx") for name in _ABOUT),
        "mask_draw",
        *METRICS_INSIDE,
        *(ZERO_FILLED + name for name in METRICS_INSIDE),
    ]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow([*columns, "patient", "n_windows", "annotation"])
        for result in results:
            about = [getattr(result.box, name) for name in _ABOUT]
            scores = [values[name] for values in (result.scores, result.zero_filled) for name in METRICS_INSIDE]
            writer.writerow(
                [*about, result.mask_draw, *scores, result.patient, result.n_windows, result.box.annotation]
            )


def means_by_label(results: Sequence[RegionResult], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Describe the boxes of each label, ready for JSON; the labels in the order of the alphabet.

    `n_boxes`, `n_patients`, and of each score, of the zero-filled image's (`zf_...`) and of their difference
    (`difference_...`): `mean` and `sd` over boxes (a box counts with the mean over its draws), and the 95 % interval of
    the mean over patients `low`, `high` (see `bootstrap_ci`; from 5 patients on). SSIM is that of the `n_ssim` boxes
    which have it. What cannot be computed is null.
    """
    groups: dict[str, list[RegionResult]] = {}
    for result in results:
        groups.setdefault(result.box.label, []).append(result)
    return {label: _describe(groups[label], seed) for label in sorted(groups)}


def _describe(results: Sequence[RegionResult], seed: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "n_boxes": len({result.box for result in results}),
        "n_patients": len({result.patient for result in results}),
        "n_ssim": len({result.box for result in results if result.n_windows}),
    }
    for name in METRICS_INSIDE:
        rows = [result for result in results if name != "ssim" or result.n_windows]
        own, reference = [r.scores[name] for r in rows], [r.zero_filled[name] for r in rows]
        described[name] = _statistics(rows, own, seed)
        described[ZERO_FILLED + name] = _statistics(rows, reference, seed)
        described[f"difference_{name}"] = _statistics(rows, list(map(operator.sub, own, reference)), seed)
    return described


def _statistics(results: Sequence[RegionResult], values: Sequence[float], seed: int) -> dict[str, float | None]:
    if not values or not all(map(math.isfinite, values)):
        return dict.fromkeys(("mean", "sd", "low", "high"))
    by_box: dict[Box, list[float]] = {}
    for result, number in zip(results, values, strict=True):
        by_box.setdefault(result.box, []).append(number)
    means = [fmean(draws) for draws in by_box.values()]
    interval = bootstrap_ci(values, [result.patient for result in results], LEVEL, seed)
    return {
        "mean": fmean(means),
        "sd": stdev(means) if len(means) > 1 else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
    }
