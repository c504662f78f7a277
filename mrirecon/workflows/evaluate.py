"""Score methods, trained runs and files of weights on a data folder: tables, summary, figures."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrirecon import ranks
from mrirecon.cluster.join import joined
from mrirecon.config import CompareConfig, EvaluateConfig
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.manifest import data_manifest, require_unchanged
from mrirecon.data.folders.stage import staging
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation.regions import RegionResult, means_by_label, write_regions
from mrirecon.evaluation.results import VolumeResult, write_results
from mrirecon.evaluation.spread_calibration import calibration_line
from mrirecon.evaluation.summary import about_metrics, notes_on_objects, summarize
from mrirecon.files import require_free, shared_folder, write_json
from mrirecon.models.device import inference
from mrirecon.progress import warn
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.reconstruct.maps import forget_maps
from mrirecon.reconstruct.spread import CalibrationCounts, spread_of
from mrirecon.report.run_files import COMPARISON, TABLE
from mrirecon.report.text.comparison import comparison_text
from mrirecon.report.text.evaluation_table import evaluation_table, region_table, several_rows, several_table
from mrirecon.runs import RunFolder, provenance
from mrirecon.workflows.outputs.reconstructions import Facts, facts_of, sampling_facts
from mrirecon.workflows.scoring.choose_options import Choice
from mrirecon.workflows.scoring.loop import Scoring, Watcher, score_dataset
from mrirecon.workflows.scoring.watchers import (
    Figures,
    FiguresOfSeveral,
    PredictionFiles,
    ProcessLoad,
    RegionScores,
    slice_times,
)
from mrirecon.workflows.setup.evaluations import SUMMARY, Evaluation, Pass, below, prepare, read_call

_REGIONS = "regions.csv"
_TOGETHER = "together"  # its folder below --output
_LONGEST_NAME = 120  # of a folder, of at most 255 bytes


def evaluate(config: EvaluateConfig, *words: str) -> list[Path]:
    """Reconstruct and score every volume of a split, print the tables, and write them.

    Each acceleration gets a folder with `volumes.csv` (a row per volume and mask draw), `summary.json` and
    `figures/`; it appears when it is complete. With several processes each calls this; the first one writes the tables.
    What the call leaves open of a method, such as the weight of total variation, is chosen first, on another split and
    for each acceleration (`workflows.scoring.choice`).

    Of several words each has the folders that it has alone; below `config.output` each has one of its name. For each
    acceleration a further folder holds `table.csv` (a row each), `comparison.json` (the paired differences from the
    first, as `mrirecon compare` writes them) and `figures/` with the images and errors of all.

    Args:
        config: Data, masks, what to draw, where to write; options of methods go to those that have them.
        words: A name of `METHODS`, a run folder, or a file of weights; or several, of which the first is the reference.

    Returns:
        The folders, in the order of the accelerations; of several words those further ones.

    Raises:
        InputError: The call or the data is wrong, or results are there already; nothing was computed.
        DataChangedError: A file changed after it was checked; tables that are complete are kept.
    """
    call = read_call(config, words)
    with joined(config), staging(config.data.stage):
        found = prepare(call)
        if len(found) > 1:
            return _together(found, call.output, call.overwrite)
        (one,) = found
        for scored in one.passes:
            results, summary = evaluate_pass(one, scored)
            if ranks.is_first():
                parts = [evaluation_table(results, summary), *further_tables(summary)]
                print(*parts, f"tables: {scored.folder}\n", sep="\n\n", flush=True)
        return [scored.folder for scored in one.passes]


def further_tables(summary: Mapping[str, Any]) -> list[str]:
    """Return what an evaluation says besides its table: scores inside boxes, and how well the spread is calibrated."""
    parts = [region_table(summary["regions"], summary["reconstructor"])] if "regions" in summary else []
    return parts + ([calibration_line(summary["calibration"])] if "calibration" in summary else [])


def evaluate_pass(
    one: Evaluation, scored: Pass, watchers: Sequence[Watcher] = ()
) -> tuple[list[VolumeResult], dict[str, Any]]:
    """Do one pass of an evaluation and write its folder.

    Args:
        one: Of `prepare`.
        scored: One of its passes.
        watchers: Further ones of the first mask draw; see `score_dataset`.

    Returns:
        The rows of its table, and what its summary.json says.
    """
    scoring, (reconstructor, choice) = one.scoring, one.chosen(scored)
    if choice and ranks.is_first():
        print(choice.line(reconstructor.name, scored.times), flush=True)
    with shared_folder(scored.folder) as folder:
        results: list[VolumeResult] = []
        regions: list[RegionResult] = []
        seconds: list[float] = []
        forget_maps()  # those that others made of the same slices: they belong to this one's time
        load = ProcessLoad()
        spread = spread_of(reconstructor)
        counts = CalibrationCounts(spread, scored.volumes, scoring.protocol) if spread else None
        for draw in range(scored.draws):
            dataset = one.dataset(scored, draw)
            watching: list[Watcher] = [load, *([counts] if counts else [])]
            if one.boxes is not None:
                watching.append(inside := RegionScores(one.boxes, dataset, scoring.protocol))
            if draw == 0:
                pictures = folder / "figures"
                watching.append(
                    Figures(
                        pictures, scored.pictured, reconstructor.name, scored.mask, scoring.protocol, scoring.metrics
                    )
                )
                watching += watchers
            if one.save:
                watching.append(_prediction_files(scoring, scored, reconstructor, dataset, folder / "reconstructions"))
            with inference(reconstructor.device):
                results += score_dataset(
                    dataset,
                    reconstructor,
                    scored.mask,
                    metrics=scoring.metrics,
                    protocol=scoring.protocol,
                    batch_size=scoring.batch_size,
                    workers=scoring.workers,
                    watchers=watching,
                    whole=one.save,
                    seconds_of_units=seconds,
                )
            if one.boxes is not None:
                regions += inside.results()
        summary = {
            **_summary(one, scored, reconstructor, choice, results),
            "seconds_per_slice": slice_times(seconds, scoring.batch_size),
            "processes": load.of_all(),
        }
        if one.boxes is not None:
            summary["regions"] = means_by_label(regions, one.seed)
        if counts:
            summary["calibration"] = counts.results(one.seed)
        require_unchanged(scored.volumes)
        if ranks.is_first():
            write_results(folder / "volumes.csv", results)
            if one.boxes is not None:
                write_regions(folder / _REGIONS, regions)
            write_json(folder / SUMMARY, summary)
    for note in notes_on_objects({result.volume: result.scores for result in results}):
        warn(f"note: {note}")
    return results, summary


def _prediction_files(
    scoring: Scoring, scored: Pass, reconstructor: Reconstructor, dataset: SliceDataset, folder: Path
) -> PredictionFiles:
    """Make the writer of one mask draw's files; each of several draws has a folder, which `mrirecon score` takes."""

    def facts(volume: Volume) -> Facts:
        columns = dataset.scoring_mask(volume)
        return {
            **facts_of(volume, reconstructor, scoring.batch_size),
            **sampling_facts(scored.mask, columns),
            "acceleration": float(columns.acceleration),
            "mask_draw": dataset.draw,
            "protocol": scoring.protocol.name,
            **({"slices": scoring.slices} if scoring.slices else {}),
        }

    place = folder / f"draw-{dataset.draw}" if scored.draws > 1 else folder
    return PredictionFiles(place, dataset.volumes, dataset.items, facts)


def _summary(
    one: Evaluation, scored: Pass, reconstructor: Reconstructor, choice: Choice | None, results: list[VolumeResult]
) -> dict[str, Any]:
    return {
        "protocol": asdict(one.scoring.protocol),
        "reconstructor": reconstructor.name,
        "checkpoint": reconstructor.checkpoint or None,
        "bn_stats": reconstructor.bn_stats if reconstructor.checkpoint else None,
        **({"weights": reconstructor.given} if reconstructor.given else {}),
        **({"options": dict(reconstructor.method_options)} if reconstructor.method_options else {}),
        **({"chosen": choice.facts()} if choice else {}),
        **one.facts,
        "mask": scored.mask,
        "acceleration": scored.acceleration,
        "center_fraction": None if scored.mask == "file" else scored.spec.center_fractions[0],
        "mask_draws": scored.draws,
        "batch_size": one.scoring.batch_size,
        "precision": reconstructor.precision,
        **about_metrics(results),
        **summarize(results, one.seed),
        "provenance": provenance(
            device=str(reconstructor.device), seed=one.seed, data_manifest=data_manifest(scored.volumes)
        ),
    }


# ---- several on the same masks: one table, paired differences, one picture


def _together(found: Sequence[Evaluation], output: str, overwrite: bool) -> list[Path]:
    """Score several things and print them beside each other; returns the folders of what all share."""
    names = [one.reconstructor.name for one in found]
    # of equal names none tells which: what was typed does
    names = [one.word if names.count(name) > 1 else name for one, name in zip(found, names, strict=True)]
    places = _places(output, found, names)
    with ranks.agreeing():
        for place in places:
            require_free(place, TABLE, overwrite)
    for i, place in enumerate(places):
        _pass_of_all(found, names, i, place)
    return places


def _pass_of_all(found: Sequence[Evaluation], names: Sequence[str], i: int, place: Path) -> None:
    folders, first, scoring = [one.passes[i].folder for one in found], found[0].passes[i], found[0].scoring
    with shared_folder(place) as folder:
        figures = FiguresOfSeveral(
            folder / "figures", first.pictured, "", first.mask, scoring.protocol, scoring.metrics
        )
        summaries = []
        for one, name, own in zip(found, names, folders, strict=True):
            _, summary = evaluate_pass(one, one.passes[i], [figures.of(name)])
            summaries.append(summary)
            if ranks.is_first():
                print(*further_tables(summary), f"tables: {own}", sep="\n\n", flush=True)
        figures.draw()
        if ranks.is_first():
            named = list(zip(names, summaries, strict=True))
            _write_table(folder / TABLE, several_rows(named))
            text = _compared(found[0], names, folders, folder, several_table(named))
    if ranks.is_first():
        print(f"\n{text}\n\ntogether: {place}\n", flush=True)


def _compared(one: Evaluation, names: Sequence[str], folders: Sequence[Path], folder: Path, table: str) -> str:
    """The table with the paired differences, which are written to `folder`; or with the reason why there are none."""
    from mrirecon.workflows.compare.compare_tables import compared  # one thing alone does not need it

    metrics = one.scoring.metrics
    metric = "ssim" if "ssim" in metrics else metrics[0]
    asked = CompareConfig(metric=metric, seed=one.seed)
    try:
        result = compared(asked, [str(path) for path in folders], names)
    except InputError as error:  # trainings that differ in their seed alone, for example
        warn(f"note: not compared: {error}")
        return table
    write_json(folder / COMPARISON, result)
    return comparison_text(result, table)


def _places(output: str, found: Sequence[Evaluation], names: Sequence[str]) -> list[Path]:
    """The folders of what all share: below --output, else below runs/, named by all of them."""
    passes = found[0].passes
    if output:
        taken = {one.output for one in found}
        place = Path(output) / _TOGETHER
        while str(place) in taken:
            place = place.with_name(f"{place.name}_")
        return [below(str(place), one, len(passes)) for one in passes]
    name = re.sub(r"[^\w.+-]+", "_", "+".join(names))[:_LONGEST_NAME]
    return [Path("runs") / name / one.place(RunFolder(Path())).name for one in passes]


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
