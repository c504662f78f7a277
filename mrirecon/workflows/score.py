"""Score anybody's reconstructions, given as fastMRI prediction files, against the stored references."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrirecon.config import ScoreConfig
from mrirecon.configfile import require_ranges
from mrirecon.data.folders.folder import of_acquisitions
from mrirecon.data.images import Images, Reference, list_references, search_images
from mrirecon.errors import InputError, unknown_name
from mrirecon.evaluation.metrics import VolumeScore
from mrirecon.evaluation.objects import RULE, STORED
from mrirecon.evaluation.protocol import Protocol, crop_protocol
from mrirecon.evaluation.results import UNDECLARED, VolumeResult, write_results
from mrirecon.evaluation.summary import about_metrics, fastmri_line, notes_on_objects, summarize
from mrirecon.files import write_json
from mrirecon.progress import say
from mrirecon.report.text.evaluation_table import evaluation_table
from mrirecon.runs import RunFolder
from mrirecon.tables.masks import MASKS
from mrirecon.tables.metrics import OBJECT_MASK, chosen_metrics, needed
from mrirecon.workflows.outputs.new_folder import new_folder, require_free
from mrirecon.workflows.scoring.stored_images import Pair, extra_files, notes_of_images, pair_files, score_pairs
from mrirecon.workflows.setup.provenance import provenance

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
