"""Score a method or a trained run on a data folder: tables, summary, figures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mrirecon import ranks
from mrirecon.cluster.join import joined
from mrirecon.config import EvaluateConfig
from mrirecon.configfile import require_ranges
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.folder import open_split
from mrirecon.data.folders.manifest import data_manifest, require_unchanged
from mrirecon.data.folders.split import require_targets
from mrirecon.data.folders.stage import staging
from mrirecon.data.folders.volume_files import h5_files, split_folders
from mrirecon.data.masking import MaskSpec, check_masks, evaluation_mask, mask_spec, uses_own
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation import FASTMRI_V1, find_protocol
from mrirecon.evaluation.annotations import OF_FILES, Box, read_annotations
from mrirecon.evaluation.calibration import calibration_line
from mrirecon.evaluation.regions import RegionResult, means_by_label, write_regions
from mrirecon.evaluation.results import VolumeResult, write_results
from mrirecon.evaluation.summary import about_metrics, notes_on_objects, summarize
from mrirecon.files import write_json
from mrirecon.models.device import autocast, choose_device, inference
from mrirecon.progress import warn
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.reconstruct.find import find_reconstructor
from mrirecon.report.text.evaluation_table import evaluation_table
from mrirecon.report.text.region_table import region_table
from mrirecon.runs import run_of
from mrirecon.tables.methods import METHODS
from mrirecon.tables.metrics import OBJECT_MASK, chosen_metrics, needed
from mrirecon.workflows.outputs.new_folder import require_free, shared_folder
from mrirecon.workflows.outputs.reconstructions import Facts, facts_of, sampling_facts
from mrirecon.workflows.outputs.source_files import other_sampling
from mrirecon.workflows.scoring.calibration import CalibrationCounts
from mrirecon.workflows.scoring.dataset import Watcher, score_dataset
from mrirecon.workflows.scoring.regions import RegionScores, find_boxes
from mrirecon.workflows.scoring.watchers import Figures, PredictionFiles, ProcessLoad, figure_slices, named_volumes
from mrirecon.workflows.setup.provenance import provenance
from mrirecon.workflows.setup.several import check_spread, spread_name, spread_of, with_spread

_SUMMARY = "summary.json"
_REGIONS = "regions.csv"


@dataclass(frozen=True)
class _Job:
    """Volumes that are scored together, and the folder for their tables."""

    mask: str
    acceleration: float | None  # nominal; None: that of each file, which are several
    volumes: list[Volume]
    spec: MaskSpec
    draws: int
    folder: Path = Path()


def evaluate(config: EvaluateConfig, method_or_run: str) -> list[Path]:
    """Reconstruct and score every volume of a split, print the tables, and write them.

    Each acceleration gets a folder with `volumes.csv` (a row per volume and mask draw), `summary.json` and
    `figures/`; it appears when it is complete. With several processes each calls this; the first one writes the tables.

    Args:
        config: Data, masks, what to draw, where to write.
        method_or_run: A name of `METHODS`, a run folder, or a file of weights.

    Returns:
        The folders, in the order of the accelerations.

    Raises:
        InputError: The call or the data is wrong, or results are there already; nothing was computed.
        DataChangedError: A file changed after it was checked; tables that are complete are kept.
    """
    check_call(config)
    with joined(config), staging(config.data.stage):
        return _evaluate(config, method_or_run)


def check_call(config: EvaluateConfig) -> None:
    """Raise an InputError for names and numbers that no evaluation takes, without its data."""
    chosen_metrics(config.metrics)
    require_ranges(config)
    check_spread(config)
    if config.regions not in ("", OF_FILES):
        read_annotations(config.regions)


def _evaluate(config: EvaluateConfig, method_or_run: str) -> list[Path]:
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    with ranks.agreeing():
        split, notes = _split(config, method_or_run)
        config = replace(config, split=split)
        volumes = _open(config)
        boxes, said = find_boxes(config.regions, volumes, config.data.slices or None) if config.regions else ([], "")
        reconstructor = find_reconstructor(method_or_run, config, device, config.data.path)
        reconstructor = with_spread(reconstructor, method_or_run, config, device, config.data.path)
        jobs = _placed(_jobs(config, volumes), config, reconstructor)
        drawn = named_volumes(config.figure_volumes, volumes)
        _check(config, jobs, reconstructor, drawn)
    own = [volume for job in jobs if job.mask == "file" for volume in job.volumes]
    for note in [*notes, *filter(None, [other_sampling(own, reconstructor), said and f"regions: {said}"])]:
        warn(f"note: {note}")
    return [_evaluate_job(config, job, reconstructor, drawn, boxes) for job in jobs]


def _split(config: EvaluateConfig, method_or_run: str) -> tuple[str, list[str]]:
    """The split that is scored, and what has to be said where `auto` became something else than one may think."""
    if config.split != "auto":
        return config.split, []
    root = Path(config.data.path)
    if not config.data.path or not root.is_dir() or split_folders(root, config.data.coils):
        return "val", []
    names = {path.name for path in h5_files(root)}
    if method_or_run in METHODS:
        return "val", [f"{root} has {len(names)} files; scored are those that training takes as val (--split all: all)"]
    run = run_of(method_or_run)
    if run and run.was_trained_on(root):
        return "val", []
    notes = [f"{root} is not what {method_or_run} was trained on; all {len(names)} files are scored (--split all)"]
    if seen := names.intersection(run.volumes().get("train", ()) if run else ()):
        notes.append(f"{len(seen)} of them have the names of training files ({min(seen)}): their scores are optimistic")
    return "all", notes


def _open(config: EvaluateConfig) -> list[Volume]:
    halve_val = find_protocol(config.protocol).halves_val
    volumes = open_split(config.data, config.split, config.seed, halve_val=halve_val)
    require_targets(volumes, "evaluation", "remove them or choose another --split")
    return volumes


def _jobs(config: EvaluateConfig, volumes: Sequence[Volume]) -> list[_Job]:
    """One per acceleration; files that keep a mask of their own are scored once, all together."""
    spec = mask_spec(config.data, volumes, find_protocol(config.protocol).mask_rule)
    own = [volume for volume in volumes if uses_own(volume, spec)]
    drawn = [volume for volume in volumes if volume not in own]
    jobs = []
    if drawn:
        for i, acceleration in enumerate(spec.accelerations):
            jobs.append(_Job(spec.name, float(acceleration), drawn, spec.only(i), config.mask_draws))
    if own:
        nominal = {round(evaluation_mask(volume, spec).acceleration) for volume in own}
        jobs.append(_Job("file", float(*nominal) if len(nominal) == 1 else None, own, spec.only(0), 1))
    return jobs


def _placed(jobs: list[_Job], config: EvaluateConfig, reconstructor: Reconstructor) -> list[_Job]:
    if reconstructor.given and not config.output and reconstructor.run.config.is_file():
        raise InputError(
            f"{reconstructor.run.path} is a run; its folder is not for {reconstructor.given['source']}: give --output"
        )
    data = Path(config.data.path).resolve().name
    protocol = "" if config.protocol == FASTMRI_V1.name else config.protocol
    protocol = "-".join(filter(None, [protocol, spread_name(config)]))
    folders = []
    for job in jobs:
        times = "mixed" if job.acceleration is None else f"{job.acceleration:g}x"
        folder = reconstructor.run.evaluation(data, config.split, job.mask, times, protocol)
        if not config.output:
            reconstructor.run.require_inside(folder)
        if config.output:
            output = Path(config.output)
            folder = output if len(jobs) == 1 else output / f"{job.mask}-{times}"
        folders.append(folder)
    return [replace(job, folder=folder) for job, folder in zip(jobs, folders, strict=True)]


def _check(config: EvaluateConfig, jobs: Sequence[_Job], reconstructor: Reconstructor, drawn: Sequence[Volume]) -> None:
    """Everything that can be wrong is found before the first slice is read."""
    for job in jobs:
        require_free(job.folder, _SUMMARY, config.overwrite)
        for shape in {volume.image_shape for volume in job.volumes}:
            reconstructor.check_image_size(shape)
        dataset = _dataset(config, job, reconstructor, 0)
        figure_slices(dataset.volumes, dataset.items, config.figures, drawn)
        check_masks(job.volumes, job.spec)
    autocast(reconstructor.device, config.precision)


def _evaluate_job(
    config: EvaluateConfig, job: _Job, reconstructor: Reconstructor, drawn: Sequence[Volume], boxes: Sequence[Box]
) -> Path:
    protocol = find_protocol(config.protocol)
    with shared_folder(job.folder) as folder:
        results: list[VolumeResult] = []
        regions: list[RegionResult] = []
        load = ProcessLoad()
        spread = spread_of(reconstructor)
        counts = CalibrationCounts(spread, job.volumes, protocol) if spread else None
        for draw in range(job.draws):
            dataset = _dataset(config, job, reconstructor, draw)
            watchers: list[Watcher] = [load, *([counts] if counts else [])]
            if config.regions:
                watchers.append(inside := RegionScores(boxes, dataset, protocol))
            if draw == 0:
                wanted = figure_slices(dataset.volumes, dataset.items, config.figures, drawn)
                watchers.append(
                    Figures(folder / "figures", wanted, reconstructor.name, job.mask, protocol, config.metrics)
                )
            if config.save:
                watchers.append(_prediction_files(config, job, reconstructor, dataset, folder / "reconstructions"))
            with inference(reconstructor.device):
                results += score_dataset(
                    dataset,
                    reconstructor,
                    job.mask,
                    metrics=config.metrics,
                    protocol=protocol,
                    batch_size=config.batch_size,
                    workers=config.data.workers,
                    watchers=watchers,
                    whole=config.save,
                )
            if config.regions:
                regions += inside.results()
        summary = {**_summary(config, job, reconstructor, results), "processes": load.of_all()}
        if config.regions:
            summary["regions"] = means_by_label(regions, config.seed)
        if counts:
            summary["calibration"] = counts.results(config.seed)
        require_unchanged(job.volumes)
        if ranks.is_first():
            write_results(folder / "volumes.csv", results)
            if config.regions:
                write_regions(folder / _REGIONS, regions)
            write_json(folder / _SUMMARY, summary)
    if ranks.is_first():
        for note in notes_on_objects({result.volume: result.scores for result in results}):
            warn(f"note: {note}")
        parts = [region_table(summary["regions"], reconstructor.name)] if config.regions else []
        parts += [calibration_line(summary["calibration"])] if counts else []
        print(evaluation_table(results, summary), *parts, f"tables: {job.folder}\n", sep="\n\n", flush=True)
    return job.folder


def _prediction_files(
    config: EvaluateConfig, job: _Job, reconstructor: Reconstructor, dataset: SliceDataset, folder: Path
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


def _dataset(config: EvaluateConfig, job: _Job, reconstructor: Reconstructor, draw: int) -> SliceDataset:
    return SliceDataset(
        job.volumes,
        mask=job.spec,
        needs=(*reconstructor.needs, "image"),
        slices=config.data.slices or None,
        draw=draw,
        protocol=find_protocol(config.protocol),
        object_masks=needed(chosen_metrics(config.metrics), OBJECT_MASK) or bool(spread_name(config)),
    )


def _summary(
    config: EvaluateConfig, job: _Job, reconstructor: Reconstructor, results: list[VolumeResult]
) -> dict[str, Any]:
    return {
        "protocol": asdict(find_protocol(config.protocol)),
        "reconstructor": reconstructor.name,
        "checkpoint": reconstructor.checkpoint or None,
        "bn_stats": config.bn_stats if reconstructor.checkpoint else None,
        **({"weights": reconstructor.given} if reconstructor.given else {}),
        **({"options": dict(reconstructor.method_options)} if reconstructor.method_options else {}),
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
