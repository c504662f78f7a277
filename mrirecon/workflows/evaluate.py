"""Score a method or a trained run on a data folder: tables, summary, figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrirecon import ranks
from mrirecon.cluster.join import joined
from mrirecon.config import EvaluateConfig
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.manifest import data_manifest, require_unchanged
from mrirecon.data.folders.stage import staging
from mrirecon.data.volume import Volume
from mrirecon.evaluation import find_protocol
from mrirecon.evaluation.calibration import calibration_line
from mrirecon.evaluation.regions.scores import RegionResult, means_by_label, write_regions
from mrirecon.evaluation.results import VolumeResult, write_results
from mrirecon.evaluation.summary import about_metrics, notes_on_objects, summarize
from mrirecon.files import write_json
from mrirecon.models.device import inference
from mrirecon.progress import warn
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.reconstruct.maps import forget_maps
from mrirecon.report.text.evaluation_table import evaluation_table
from mrirecon.report.text.region_table import region_table
from mrirecon.workflows.outputs.new_folder import shared_folder
from mrirecon.workflows.outputs.reconstructions import Facts, facts_of, sampling_facts
from mrirecon.workflows.scoring.calibration import CalibrationCounts
from mrirecon.workflows.scoring.choice import Choice
from mrirecon.workflows.scoring.dataset import Watcher, score_dataset
from mrirecon.workflows.scoring.regions import RegionScores
from mrirecon.workflows.scoring.watchers import Figures, PredictionFiles, ProcessLoad, figure_slices, slice_times
from mrirecon.workflows.setup.evaluations import SUMMARY, Evaluation, Job, check_call, prepare
from mrirecon.workflows.setup.provenance import provenance
from mrirecon.workflows.setup.spread import spread_of

_REGIONS = "regions.csv"


def evaluate(config: EvaluateConfig, method_or_run: str) -> list[Path]:
    """Reconstruct and score every volume of a split, print the tables, and write them.

    Each acceleration gets a folder with `volumes.csv` (a row per volume and mask draw), `summary.json` and
    `figures/`; it appears when it is complete. With several processes each calls this; the first one writes the tables.
    What the call leaves open of a method, such as the weight of total variation, is chosen first, on another split and
    for each acceleration (`workflows.scoring.choice`).

    Args:
        config: Data, masks, what to draw, where to write.
        method_or_run: A name of `METHODS`, a run folder, or a file of weights.

    Returns:
        The folders, in the order of the accelerations.

    Raises:
        InputError: The call or the data is wrong, or results are there already; nothing was computed.
        DataChangedError: A file changed after it was checked; tables that are complete are kept.
    """
    check_call(config, [method_or_run])
    with joined(config), staging(config.data.stage):
        (one,) = prepare(config, [method_or_run])
        for job in one.jobs:
            results, summary = evaluate_job(one, job)
            if ranks.is_first():
                parts = [evaluation_table(results, summary), *further_tables(summary)]
                print(*parts, f"tables: {job.folder}\n", sep="\n\n", flush=True)
        return [job.folder for job in one.jobs]


def further_tables(summary: Mapping[str, Any]) -> list[str]:
    """Return what an evaluation says besides its table: scores inside boxes, and how well the spread is calibrated."""
    parts = [region_table(summary["regions"], summary["reconstructor"])] if "regions" in summary else []
    return parts + ([calibration_line(summary["calibration"])] if "calibration" in summary else [])


def evaluate_job(
    one: Evaluation, job: Job, watchers: Sequence[Watcher] = ()
) -> tuple[list[VolumeResult], dict[str, Any]]:
    """Do one job of an evaluation and write its folder.

    Args:
        one: Of `prepare`.
        job: One of its jobs.
        watchers: Further ones of the first mask draw; see `score_dataset`.

    Returns:
        The rows of its table, and what its summary.json says.
    """
    config, protocol = one.config, find_protocol(one.config.protocol)
    reconstructor, choice = one.chosen(job)
    if choice and ranks.is_first():
        print(choice.line(reconstructor.name, job.times), flush=True)
    with shared_folder(job.folder) as folder:
        results: list[VolumeResult] = []
        regions: list[RegionResult] = []
        seconds: list[float] = []
        forget_maps()  # those that others made of the same slices: they belong to this one's time
        load = ProcessLoad()
        spread = spread_of(reconstructor)
        counts = CalibrationCounts(spread, job.volumes, protocol) if spread else None
        for draw in range(job.draws):
            dataset = one.dataset(job, draw)
            watching: list[Watcher] = [load, *([counts] if counts else [])]
            if config.regions:
                watching.append(inside := RegionScores(one.boxes, dataset, protocol))
            if draw == 0:
                wanted = figure_slices(dataset.volumes, dataset.items, config.figures, one.drawn)
                figures = Figures(folder / "figures", wanted, reconstructor.name, job.mask, protocol, config.metrics)
                watching += [figures, *watchers]
            if config.save:
                watching.append(_prediction_files(config, job, reconstructor, dataset, folder / "reconstructions"))
            with inference(reconstructor.device):
                results += score_dataset(
                    dataset,
                    reconstructor,
                    job.mask,
                    metrics=config.metrics,
                    protocol=protocol,
                    batch_size=config.batch_size,
                    workers=config.data.workers,
                    watchers=watching,
                    whole=config.save,
                    seconds_of_units=seconds,
                )
            if config.regions:
                regions += inside.results()
        summary = {
            **_summary(config, job, reconstructor, choice, results),
            "seconds_per_slice": slice_times(seconds, config.batch_size),
            "processes": load.of_all(),
        }
        if config.regions:
            summary["regions"] = means_by_label(regions, config.seed)
        if counts:
            summary["calibration"] = counts.results(config.seed)
        require_unchanged(job.volumes)
        if ranks.is_first():
            write_results(folder / "volumes.csv", results)
            if config.regions:
                write_regions(folder / _REGIONS, regions)
            write_json(folder / SUMMARY, summary)
    for note in notes_on_objects({result.volume: result.scores for result in results}):
        warn(f"note: {note}")
    return results, summary


def _prediction_files(
    config: EvaluateConfig, job: Job, reconstructor: Reconstructor, dataset: SliceDataset, folder: Path
) -> PredictionFiles:
    """Make the writer of one mask draw's files; each of several draws has a folder, which `mrirecon score` takes."""

    def facts(volume: Volume) -> Facts:
        columns = dataset.scoring_mask(volume)
        return {
            **facts_of(volume, reconstructor, config, config.batch_size),
            **sampling_facts(job.mask, columns),
            "acceleration": float(columns.acceleration),
            "mask_draw": dataset.draw,
            "protocol": config.protocol,
            **({"slices": config.data.slices} if config.data.slices else {}),
        }

    place = folder / f"draw-{dataset.draw}" if job.draws > 1 else folder
    return PredictionFiles(place, dataset.volumes, dataset.items, facts)


def _summary(
    config: EvaluateConfig, job: Job, reconstructor: Reconstructor, choice: Choice | None, results: list[VolumeResult]
) -> dict[str, Any]:
    return {
        "protocol": asdict(find_protocol(config.protocol)),
        "reconstructor": reconstructor.name,
        "checkpoint": reconstructor.checkpoint or None,
        "bn_stats": config.bn_stats if reconstructor.checkpoint else None,
        **({"weights": reconstructor.given} if reconstructor.given else {}),
        **({"options": dict(reconstructor.method_options)} if reconstructor.method_options else {}),
        **({"chosen": choice.facts()} if choice else {}),
        **({"samples": config.samples} if config.samples else {}),
        **({"ensemble": list(config.ensemble)} if config.ensemble else {}),
        "data": str(config.data.path),
        "split": config.split,
        "slices": config.data.slices or None,
        "mask": job.mask,
        "acceleration": job.acceleration,
        "center_fraction": None if job.mask == "file" else job.spec.center_fractions[0],
        "mask_draws": job.draws,
        "batch_size": config.batch_size,
        "precision": config.precision,
        **about_metrics(results),
        **summarize(results, config.seed),
        "provenance": provenance(
            device=str(reconstructor.device), seed=config.seed, data_manifest=data_manifest(job.volumes)
        ),
    }
