"""Score anybody's reconstructions, given as fastMRI prediction files, against the stored references.

Images and references belong together by the name of their file; what looks wrong with a pair is said.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mrirecon.config import ScoreConfig
from mrirecon.configfile import require_ranges
from mrirecon.data.folders.folder import of_acquisitions
from mrirecon.data.images import Images, Reference, list_references, open_reconstructions, search_images
from mrirecon.errors import InputError, unknown_name
from mrirecon.evaluation.foreground import RULE, STORED
from mrirecon.evaluation.metrics import SliceScore, VolumeScore, combine_slices, score_slice, too_small
from mrirecon.evaluation.protocol import FASTMRI_V1_SQUARE, Protocol, crop_protocol, scored_grid
from mrirecon.evaluation.resemblance import Comparison, Resemblance, swapped
from mrirecon.evaluation.results import UNDECLARED, VolumeResult, write_results
from mrirecon.evaluation.summary import about_metrics, fastmri_line, notes_on_objects, summarize
from mrirecon.files import new_folder, require_free, write_json
from mrirecon.physics import center_crop
from mrirecon.progress import progress, say
from mrirecon.report.text.evaluation_table import evaluation_table
from mrirecon.runs import RunFolder, provenance
from mrirecon.tables.masks import MASKS
from mrirecon.tables.metrics import OBJECT_MASK, chosen_metrics, needed

# From where on a note on the images is given:
_FACTOR = 3.0  # zero-filled images of noisy, 8-fold undersampled k-space are up to 1.7 times darker than their targets
_SPREAD = 2.0  # between the scales of a volume's slices; up to 1.5 in such images
_UNEQUAL = 1.1  # between the scales of volumes in the same units
_NEGATIVE = 0.01  # share of the energy; the background of a network's images has far less
_Found = Sequence[tuple[str, Resemblance]]


class Pair(NamedTuple):
    """One volume: its reference, what is scored against it, and the central grid they are scored on."""

    target: Reference
    prediction: Images
    grid: tuple[int, int]


def pair_files(
    folder: Path, targets: Sequence[Reference], protocol: Protocol, among: Sequence[Reference], metrics: Sequence[str]
) -> list[Pair]:
    """The prediction of each target: the file of its relative name, or of its bare name where that is unambiguous.

    In a flat folder these are the pairs of fastMRI's evaluation.

    Args:
        folder: Of the predictions.
        targets: To be scored.
        protocol: How.
        among: All targets; one of them may have the same bare name.
        metrics: How they are scored, which decides how small an image may be.

    Raises:
        InputError: A missing or bad prediction, or one of a shape that cannot be scored.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; PREDICTIONS is a folder with one .h5 file per target")
    paths = _paths(folder, among)
    missing = [target.name for target in targets if target.name not in paths]
    if missing:
        deeper = next(folder.glob(f"*/**/{Path(missing[0]).name}"), None)
        hint = ", or score one split (TARGETS/val)" if "/" in missing[0] else ""
        hint = f", or give the folder where one is: {deeper.parent}" if deeper else hint
        raise InputError(
            f"{folder} has no {missing[0]} ({len(missing)} of {len(targets)} targets have no prediction); "
            f"put a file of the target's name there{hint}"
        )
    predictions = open_reconstructions([(paths[target.name], target.name) for target in targets])
    return [_pair(target, found, protocol, metrics) for target, found in zip(targets, predictions, strict=True)]


def extra_files(folder: Path, targets: Sequence[Reference]) -> list[str]:
    """Names of the `.h5` files in `folder` that are predictions of no target."""
    used = set(_paths(folder, targets).values())
    found = sorted(path for path in folder.rglob("*.h5") if not path.name.startswith("."))
    return [path.relative_to(folder).as_posix() for path in found if path not in used]


def _paths(folder: Path, targets: Sequence[Reference]) -> dict[str, Path]:
    n_of_name = Counter(target.path.name for target in targets)
    paths = {}
    for target in targets:
        names = [target.name] + [target.path.name] * (n_of_name[target.path.name] == 1)
        there = [folder / name for name in names if (folder / name).exists()]
        if there:
            paths[target.name] = there[0]
    return paths


def _pair(target: Reference, prediction: Images, protocol: Protocol, metrics: Sequence[str]) -> Pair:
    try:
        grid = scored_grid(protocol, target.shape[1:])
    except InputError as error:
        raise InputError(f"{target.label}: {error}") from None
    if reason := too_small(grid, metrics):
        raise InputError(f"{target.label}: {reason}")
    if not _fits(target, prediction, protocol):
        hint = _hint(target, prediction)
        raise InputError(
            f"{prediction.label}: has shape {prediction.shape}, its target {target.shape} (slices, h, w); {hint}"
        )
    return Pair(target, prediction, grid)


def _hint(target: Reference, prediction: Images) -> str:
    n, height, width = target.shape
    reorder = {(n, width, height): "swapaxes(1, 2)", (height, width, n): "moveaxis(x, 2, 0)"}.get(prediction.shape)
    if reorder:
        return f"its axes are in another order: write numpy's {reorder} of it"
    if _fits(target, prediction, FASTMRI_V1_SQUARE):
        return "add --crop square"
    return "crop or pad the prediction to the target"


def _fits(target: Reference, prediction: Images, protocol: Protocol) -> bool:
    if protocol is not FASTMRI_V1_SQUARE:
        return prediction.shape == target.shape
    width = target.shape[2]
    return prediction.shape[0] == target.shape[0] and min(*target.shape[1:], *prediction.shape[1:]) >= width


class PairScore(NamedTuple):
    """Scores of one volume, and how the images lie against their targets."""

    score: VolumeScore
    mse: float  # squared units of the target; NaN where no metric needs it
    resemblance: Resemblance


def score_pairs(pairs: Sequence[Pair], label: str, metrics: Sequence[str] | None = None) -> list[PairScore]:
    """The score of each pair by `metrics` (None: the default ones); one slice is in memory at a time.

    Raises:
        InputError: Samples that cannot be read, are not finite, or a target without a positive value.
    """
    names = chosen_metrics(metrics)
    return [_score_pair(pair, names) for pair in progress(pairs, label, unit="volumes")]


def _score_pair(pair: Pair, metrics: Sequence[str]) -> PairScore:
    target, prediction, grid = pair
    data_range = _data_range(pair)
    masks = target.object_masks if needed(metrics, OBJECT_MASK) else None
    slices: list[SliceScore] = []
    comparison = Comparison()
    for i in range(target.shape[0]):
        wanted, image = _cut(target, i, grid), _cut(prediction, i, grid)
        mask = None if masks is None else center_crop(torch.from_numpy(masks.image(i) != 0), grid)
        slices.append(score_slice(wanted, image, data_range, metrics, mask))
        comparison.add(wanted.numpy(), image.numpy())
    score = combine_slices(slices, data_range)
    mse = score.sums["squared_error"] / score.sums["n_pixels"] if "squared_error" in score.sums else math.nan
    return PairScore(score, mse, comparison.result())


def _data_range(pair: Pair) -> float:
    """Maximum of the target over all slices, inside the grid that is scored."""
    target = pair.target
    largest = max(float(_cut(target, i, pair.grid).max()) for i in range(target.shape[0]))
    if largest <= 0:
        raise InputError(f"{target.label}: {target.key} has no positive value; write it anew or remove it")
    return largest


def _cut(images: Images, i: int, grid: tuple[int, int]) -> Tensor:
    """Read slice `i` and crop it around its centre to `grid` (h, w)."""
    return center_crop(torch.from_numpy(images.image(i)), grid)


def notes_of_images(names: Sequence[str], found: Sequence[Resemblance]) -> list[str]:
    """Notes on the predictions of a set of volumes; none where they lie against their targets as they should.

    Args:
        names: Of the volumes.
        found: How each volume's predictions lie against its targets.
    """
    notes, pairs = [], swapped(found)
    if pairs:
        image, target = pairs[0]
        notes.append(
            f"{len(pairs)} of {len(found)} volumes have the predictions of another one ({names[target]} has those of "
            f"{names[image]}): give each file the name of its target"
        )
    elsewhere = {target for _, target in pairs}
    volumes = [(name, one) for i, (name, one) in enumerate(zip(names, found, strict=True)) if i not in elsewhere]
    for holds, describe in _KINDS:
        if chosen := [(name, one) for name, one in volumes if holds(one)]:
            first = f"{chosen[0][0]}{', ...' * (len(chosen) > 1)}"
            notes.append(f"in {len(chosen)} of {len(found)} volumes ({first}) the predictions {describe(chosen)}")
    return notes


def _units(chosen: _Found) -> str:
    scales = [one.scale for _, one in chosen]
    low, high = min(scales), max(scales)
    if high <= _UNEQUAL * low:
        scale = sorted(scales)[len(scales) // 2]
        return (
            f"are {1 / scale:.3g} times as bright as their targets, and are scored as they are: "
            f"multiply them by {scale:.3g}"
        )
    return (
        f"are {1 / high:.3g} to {1 / low:.3g} times as bright as their targets, and are scored as they are: they are "
        f"not in one unit; give each volume in that of its target (multiply {chosen[0][0]} by {scales[0]:.3g})"
    )


def _slice_units(chosen: _Found) -> str:
    low, high = chosen[0][1].slice_scales
    return (
        f"have other units in each slice (they lack factors of {low:.3g} to {high:.3g}): "
        "undo the normalisation of single slices"
    )


def _placement(chosen: _Found) -> str:
    """The commonest; images may lie wrongly in more than one way."""
    ways = [(one.orientation.name, one.orientation.remedy, one.order) for _, one in chosen]
    turned, remedy, order = max(ways, key=ways.count)
    words = [f"are {turned}"] * bool(turned) + [f"have their slices {order}"] * bool(order)
    remedies = [f"x = {remedy}"] * bool(turned) + ["sort the slices as those of the targets are"] * bool(order)
    others = len(ways) - ways.count((turned, remedy, order))
    return f"{' and '.join(words)}{f' ({others} otherwise)' * bool(others)}: {', then '.join(remedies)}"


def _shift(chosen: _Found) -> str:
    shifts = [one.shift for _, one in chosen]
    down, right = max(shifts, key=shifts.count)
    ways = [(down, "down", "up"), (right, "to the right", "to the left")]
    words = [f"{abs(by)} pixel{'s' * (abs(by) > 1)} {plus if by > 0 else minus}" for by, plus, minus in ways if by]
    return f"lie {' and '.join(words)} of their targets: cut out what the targets show, or undo an fftshift"


def _negative(chosen: _Found) -> str:
    share = max(one.negative for _, one in chosen)
    return (
        f"have up to {share:.0%} of their energy below zero, which magnitudes have not: "
        "give abs() of complex images, and undo a normalisation"
    )


def _constant(chosen: _Found) -> str:
    return f"are of one value in {sum(one.n_constant for _, one in chosen)} slices whose targets are not"


_KINDS: tuple[tuple[Callable[[Resemblance], bool], Callable[[_Found], str]], ...] = (
    (lambda one: not 1 / _FACTOR <= one.scale <= _FACTOR and one.scale > 0, _units),
    (lambda one: one.slice_scales[1] > _SPREAD * one.slice_scales[0], _slice_units),
    (lambda one: bool(one.orientation.name or one.order), _placement),
    (lambda one: one.shift != (0, 0), _shift),
    (lambda one: one.negative > _NEGATIVE, _negative),
    (lambda one: one.n_constant > 0, _constant),
    (
        lambda one: one.is_copy,
        lambda _: "equal their targets but for a factor and rounding: copies, or made from fully sampled k-space",
    ),
)


_SUMMARY = "summary.json"


def score(config: ScoreConfig, predictions: str, targets: str) -> Path:
    """Score every target's prediction, print the tables, and write `volumes.csv` and `summary.json`.

    Args:
        config: How to score, what is declared of the images, where to write.
        predictions: Folder of fastMRI prediction files, named as the targets.
        targets: Folder of fastMRI files, flat or in split folders; their k-space is not read and may be absent.

    Returns:
        The folder of the tables; it appears when it is complete.

    Raises:
        InputError: The call or a file is wrong, or results are there already; nothing was written.
        DataChangedError: A file changed after it was checked; nothing was written.
    """
    protocol, metrics = crop_protocol(config.crop), chosen_metrics(config.metrics)
    name = _check(config, predictions)
    folder = _place(config, name, targets)
    require_free(folder, _SUMMARY, config.overwrite)
    references = list_references(Path(targets))
    chosen = of_acquisitions(references, config.acquisition)
    pairs = pair_files(Path(predictions), chosen, protocol, among=references, metrics=metrics)
    notes = _notes(config, chosen, extra_files(Path(predictions), references))
    for note in notes:
        say(f"note: {note}")
    looks_for_object = needed(metrics, OBJECT_MASK)
    files: list[list[Images]] = []
    for pair in pairs:
        masks = pair.target.object_masks if looks_for_object else None
        files += [[pair.target, *([masks] if masks else [])], [pair.prediction]]
    search_images(files)
    scores = score_pairs(pairs, f"{name}, {protocol.name}", metrics)
    for images, *_ in files:
        images.require_unchanged()
    of_images = notes_of_images([target.name for target in chosen], [s.resemblance for s in scores])
    for note in of_images:
        say(f"note: {note}")
    results = [
        _result(
            config,
            name,
            protocol,
            target,
            s.score,
            (STORED if target.has_object_mask else RULE) if looks_for_object else "",
        )
        for target, s in zip(chosen, scores, strict=True)
    ]
    on_objects = notes_on_objects({result.volume: result.scores for result in results})
    for note in on_objects:
        say(f"note: {note}")
    line = fastmri_line(results, [s.mse for s in scores])
    about = {"data": targets, "predictions": predictions, "reference": chosen[0].key, "fastmri_evaluate": line or None}
    summary = _summary(config, results, protocol, **about, notes=[*notes, *of_images, *on_objects])
    with new_folder(folder) as temporary:
        write_results(temporary / "volumes.csv", results)
        write_json(temporary / _SUMMARY, summary)
    like_theirs = [f"{_label(pairs)}:\n{line}"] if line else []
    print(evaluation_table(results, summary), f"tables: {folder}", *like_theirs, sep="\n\n", flush=True)
    return folder


def _check(config: ScoreConfig, predictions: str) -> str:
    """Check the keys, and return the name of the reconstructions."""
    if config.mask not in (*MASKS, "file", UNDECLARED):
        raise unknown_name("mask", config.mask, (*MASKS, "file", UNDECLARED))
    if config.acceleration and not 1 <= config.acceleration < math.inf:
        raise InputError(f"--acceleration {config.acceleration:g}; it must be at least 1, or 0 for undeclared")
    require_ranges(config)
    name = config.name or Path(predictions).resolve().name
    if Path(name).name != name or name == "..":
        raise InputError(f"--name '{name}'; it names a folder, so it must be one word without slashes")
    return name


def _place(config: ScoreConfig, name: str, targets: str) -> Path:
    if config.output:
        return Path(config.output)
    run, data = RunFolder(Path("runs") / name), Path(targets).resolve().name
    return run.evaluation(data, "all", config.mask, f"{config.acceleration:g}x" if config.acceleration else UNDECLARED)


def _notes(config: ScoreConfig, targets: Sequence[Reference], extra: Sequence[str]) -> list[str]:
    """Word what does not stop the work, but a reader of the table has to know."""
    notes = []
    if extra:
        notes.append(f"{len(extra)} files have no target and are not scored ({extra[0]}{', ...' * (len(extra) > 1)})")
    chosen = [target for target in targets if target.was_chosen]
    if chosen:
        notes.append(f"{chosen[0].name} has references of both kinds and no k-space; {chosen[0].key} is used")
    declared = config.acceleration
    others = [t for t in targets if declared and not math.isnan(t.acceleration) and t.acceleration != declared]
    if others:
        notes.append(
            f"{others[0].name} says acceleration {others[0].acceleration:g}, the table {declared:g} as declared "
            f"({len(others)} of {len(targets)} targets)"
        )
    return notes


def _result(
    config: ScoreConfig, name: str, protocol: Protocol, target: Reference, score: VolumeScore, source: str
) -> VolumeResult:
    return VolumeResult(
        volume=target.name,
        patient=target.patient,
        origin=target.origin,
        acquisition=target.acquisition,
        n_slices=score.n_slices,
        acceleration=config.acceleration or math.nan,
        acceleration_true=math.nan,
        mask=config.mask,
        mask_draw=0,
        mask_id="",
        protocol=protocol.name,
        reconstructor=name,
        checkpoint="",
        scores=score.scores,
        zero_filled=dict.fromkeys(score.scores, math.nan),
        seconds=math.nan,
        object=source,
        n_object_windows=score.n_object_windows,
    )


def _summary(config: ScoreConfig, results: list[VolumeResult], protocol: Protocol, **about: Any) -> dict[str, Any]:
    return {
        "protocol": asdict(protocol),
        "reconstructor": results[0].reconstructor,
        "checkpoint": None,
        **about,
        "split": "all",
        "slices": None,
        "acquisition": config.acquisition or None,
        "mask": config.mask,
        "acceleration": config.acceleration or None,
        "declared": "mask and acceleration are what the caller said of the images, not checked",
        **about_metrics(results),
        **summarize(results, config.seed),
        "provenance": provenance(seed=config.seed),
    }


def _label(pairs: Sequence[Pair]) -> str:
    """Their command always crops to a square, so its numbers are the same only where nothing is cut off."""
    if all(pair.grid == (pair.target.shape[2], pair.target.shape[2]) for pair in pairs):
        return "as `python -m fastmri.evaluate` prints it (mean +/- 2 SD over volumes)"
    return "in fastMRI's format (mean +/- 2 SD over volumes; fastMRI's own command scores --crop square)"
