"""Make and check all that an evaluation needs before its first slice is read: volumes, masks, methods, places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mrirecon import ranks
from mrirecon.config import EvaluateConfig, ModelConfig
from mrirecon.configfile import require_ranges
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.folder import open_split
from mrirecon.data.folders.split import require_targets
from mrirecon.data.folders.volume_files import h5_files, split_folders
from mrirecon.data.masking import MaskSpec, check_masks, evaluation_mask, mask_spec, uses_own
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation import FASTMRI_V1, find_protocol
from mrirecon.evaluation.regions.annotations import OF_FILES, OF_MASKS, Box, read_annotations
from mrirecon.models.device import autocast, choose_device
from mrirecon.progress import warn
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.reconstruct.find import check_method, find_reconstructor
from mrirecon.reconstruct.options import left_open, option_keys, require_any, require_method, tried_values
from mrirecon.runs import checkpoint_in_run, run_of
from mrirecon.tables.methods import METHODS
from mrirecon.tables.metrics import OBJECT_MASK, chosen_metrics, needed
from mrirecon.workflows.outputs.new_folder import require_free
from mrirecon.workflows.outputs.source_files import other_sampling
from mrirecon.workflows.scoring.choice import Choice, Elsewhere, choose, open_elsewhere
from mrirecon.workflows.scoring.regions import find_boxes
from mrirecon.workflows.scoring.watchers import figure_slices, named_volumes
from mrirecon.workflows.setup.spread import check_spread, spread_name, with_spread

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Job:
    """Volumes that are scored together, and the folder for their tables."""

    mask: str
    acceleration: float | None  # nominal; None: that of each file, which are several
    volumes: list[Volume]
    spec: MaskSpec
    draws: int
    folder: Path = Path()

    @property
    def times(self) -> str:
        """The acceleration in words."""
        return "mixed" if self.acceleration is None else f"{self.acceleration:g}x"


@dataclass(frozen=True)
class Evaluation:
    """One thing that is scored: what it is called, its own part of the configuration, its jobs."""

    word: str  # as it was called
    config: EvaluateConfig  # its split is the one scored
    reconstructor: Reconstructor  # what it leaves open is at the first value tried
    jobs: list[Job]
    drawn: list[Volume]
    elsewhere: Elsewhere | None  # where it is chosen
    boxes: list[Box]  # that are scored besides

    def dataset(self, job: Job, draw: int) -> SliceDataset:
        """The slices of a job under one of its mask draws."""
        return _dataset(self.config, job, self.reconstructor, draw)

    def chosen(self, job: Job) -> tuple[Reconstructor, Choice | None]:
        """What a job is done with; where the call leaves something open it is chosen first."""
        if self.elsewhere is None:
            return self.reconstructor, None

        def make(values: Mapping[str, Any]) -> Reconstructor:
            return find_reconstructor(self.word, self.config, self.reconstructor.device, self.config.data.path, values)

        volumes = self.elsewhere.of_job(job.spec, job.mask == "file", job.acceleration)
        candidates = tried_values(self.word, self.config.method)
        choice = choose(candidates, make, self.config, volumes, job.spec, self.elsewhere.split)
        return make(choice.values), choice


def check_call(config: EvaluateConfig, words: Sequence[str]) -> None:
    """Raise an InputError for names, options and numbers that no evaluation takes, without its data."""
    chosen_metrics(config.metrics)
    require_ranges(config)
    check_spread(config)
    if config.ensemble and len(words) > 1:
        raise InputError("--ensemble joins further runs to one; evaluate that one alone")
    if config.regions not in ("", OF_FILES, OF_MASKS):
        read_annotations(config.regions)
    for word in words:
        if words.count(word) > 1:
            raise InputError(f"{word} is given twice; give each once")
    for word, own in zip(words, own_configs(config, words), strict=True):
        check_method(word, own.method)


def own_configs(config: EvaluateConfig, words: Sequence[str]) -> list[EvaluateConfig]:
    """The configuration of each of the things that are scored: of several, with the options and keys that it has.

    Raises:
        InputError: An option that none of several has.
    """
    if len(words) == 1:
        require_method(words[0], list(config.method))
        return [config]
    require_any(list(config.method), words)
    known = {word: option_keys(METHODS[word]) if word in METHODS else {} for word in words}
    are_files = any(map(_is_file_of_weights, words))  # of which `model` says what the network is
    return [
        replace(
            config,
            method={option: value for option, value in config.method.items() if option in known[word]},
            model=config.model if not are_files or _is_file_of_weights(word) else ModelConfig(),
        )
        for word in words
    ]


def prepare(config: EvaluateConfig, words: Sequence[str]) -> list[Evaluation]:
    """Open and check everything that the things named by `words` are scored on, and find them; nothing is computed.

    Raises:
        InputError: The call or the data is wrong, or results are there already.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    with ranks.agreeing():
        split, notes = _split(config, words)
        config = replace(config, split=split)
        volumes = _open(config)
        boxes, said = find_boxes(config.regions, volumes, config.data.slices or None) if config.regions else ([], "")
        jobs = _jobs(config, volumes)
        drawn = named_volumes(config.figure_volumes, volumes)
        elsewhere = _elsewhere(config, words)
        found: list[Evaluation] = []
        for word, given in zip(words, own_configs(config, words), strict=True):
            tried = tried_values(word, given.method)
            reconstructor = find_reconstructor(word, given, device, config.data.path, tried[0] if tried else {})
            reconstructor = with_spread(reconstructor, word, given, device, config.data.path)
            own = given if len(words) == 1 else _own_output(given, reconstructor, found)
            placed = _placed(jobs, own, reconstructor)
            found.append(Evaluation(word, own, reconstructor, placed, drawn, elsewhere if tried else None, boxes))
        for one in found:
            _check(one)
        _require_apart(found)
    if said:
        notes = [*notes, f"regions: {said}"]
    for note in [*notes, *(_seen(words, volumes) if len(words) > 1 else [])]:
        warn(f"note: {note}")
    scored = [volume for job in jobs if job.mask == "file" for volume in job.volumes]
    for one in found:
        if note := other_sampling(scored, one.reconstructor):
            warn(f"note: {note}")
    return found


def _elsewhere(config: EvaluateConfig, words: Sequence[str]) -> Elsewhere | None:
    """Where the things choose what is left open; None where nothing is."""
    for word, own in zip(words, own_configs(config, words), strict=True):
        if names := left_open(word, own.method):
            return open_elsewhere(own, word, names[0])
    return None


def _seen(words: Sequence[str], volumes: Sequence[Volume]) -> list[str]:
    """One line for each run that was trained on some of the volumes, as another run's split may have it."""
    notes = []
    for word in words:
        run = run_of(word)
        seen = {volume.name for volume in volumes}.intersection(run.volumes().get("train", ()) if run else ())
        if seen:
            notes.append(
                f"{word} was trained on {len(seen)} of the {len(volumes)} volumes ({min(seen)}): its scores are "
                "optimistic"
            )
    return notes


def _split(config: EvaluateConfig, words: Sequence[str]) -> tuple[str, list[str]]:
    """The split that is scored, and what has to be said where `auto` became something else than one may think.

    Raises:
        InputError: Several things whose splits are not the same one.
    """
    if config.split != "auto":
        return config.split, []
    root = Path(config.data.path)
    if not config.data.path or not root.is_dir() or split_folders(root, config.data.coils):
        return "val", []
    names = {path.name for path in h5_files(root)}
    found = {word: _split_of_flat(root, names, word) for word in words}
    trained = {word: split for word, (split, _) in found.items() if word not in METHODS}
    if len(set(trained.values())) > 1:
        raise InputError(
            f"{' and '.join(trained)} are not to be scored on the same files of {root} (only some were trained on it): "
            "say which with --split"
        )
    split = next(iter(trained.values()), "val")
    return split, list(dict.fromkeys(note for _, (own, notes) in found.items() if own == split for note in notes))


def _split_of_flat(root: Path, names: set[str], word: str) -> tuple[str, list[str]]:
    """The split of a flat folder that one thing is scored on, and notes."""
    if word in METHODS:
        return "val", [f"{root} has {len(names)} files; scored are those that training takes as val (--split all: all)"]
    run = run_of(word)
    if run and run.was_trained_on(root):
        return "val", []
    notes = [f"{root} is not what {word} was trained on; all {len(names)} files are scored (--split all)"]
    if seen := names.intersection(run.volumes().get("train", ()) if run else ()):
        notes.append(f"{len(seen)} of them have the names of training files ({min(seen)}): their scores are optimistic")
    return "all", notes


def _open(config: EvaluateConfig) -> list[Volume]:
    halve_val = find_protocol(config.protocol).halves_val
    volumes = open_split(config.data, config.split, config.seed, halve_val=halve_val)
    require_targets(volumes, "evaluation", "remove them or choose another --split")
    return volumes


def _jobs(config: EvaluateConfig, volumes: Sequence[Volume]) -> list[Job]:
    """One per acceleration; files that keep a mask of their own are scored once, all together."""
    spec = mask_spec(config.data, volumes, find_protocol(config.protocol).mask_rule)
    own = [volume for volume in volumes if uses_own(volume, spec)]
    drawn = [volume for volume in volumes if volume not in own]
    jobs = []
    if drawn:
        for i, acceleration in enumerate(spec.accelerations):
            jobs.append(Job(spec.name, float(acceleration), drawn, spec.only(i), config.mask_draws))
    if own:
        nominal = {round(evaluation_mask(volume, spec).acceleration) for volume in own}
        jobs.append(Job("file", float(*nominal) if len(nominal) == 1 else None, own, spec.only(0), 1))
    return jobs


def _own_output(config: EvaluateConfig, reconstructor: Reconstructor, before: Sequence[Evaluation]) -> EvaluateConfig:
    """The configuration of one of several things: below --output each has a folder of its name."""
    if not config.output:
        return config
    taken, n = {one.config.output for one in before}, 2
    output = path = Path(config.output) / reconstructor.name
    while str(output) in taken:
        output, n = path.with_name(f"{path.name}-{n}"), n + 1
    return replace(config, output=str(output))


def evaluation_name(config: EvaluateConfig, job: Job) -> dict[str, str]:
    """Return what the folder of an evaluation is named by; see `RunFolder.evaluation`."""
    protocol = "" if config.protocol == FASTMRI_V1.name else config.protocol
    return {
        "data": Path(config.data.path).resolve().name,
        "split": config.split,
        "mask": job.mask,
        "times": job.times,
        "protocol": "-".join(filter(None, [protocol, spread_name(config)])),
    }


def below(output: str, job: Job, n_jobs: int) -> Path:
    """The folder of a job below --output, which is that itself where there is one job."""
    return Path(output) if n_jobs == 1 else Path(output) / f"{job.mask}-{job.times}"


def _placed(jobs: list[Job], config: EvaluateConfig, reconstructor: Reconstructor) -> list[Job]:
    if reconstructor.given and not config.output and reconstructor.run.config.is_file():
        raise InputError(
            f"{reconstructor.run.path} is a run; its folder is not for {reconstructor.given['source']}: give --output"
        )
    folders = []
    for job in jobs:
        folder = reconstructor.run.evaluation(**evaluation_name(config, job))
        if not config.output:
            reconstructor.run.require_inside(folder)
        folders.append(below(config.output, job, len(jobs)) if config.output else folder)
    return [replace(job, folder=folder) for job, folder in zip(jobs, folders, strict=True)]


def _check(one: Evaluation) -> None:
    """Everything that can be wrong is found before the first slice is read."""
    config, reconstructor = one.config, one.reconstructor
    for job in one.jobs:
        require_free(job.folder, SUMMARY, config.overwrite)
        dataset = one.dataset(job, 0)
        figure_slices(dataset.volumes, dataset.items, config.figures, one.drawn)
        check_masks(job.volumes, job.spec)
        others = one.elsewhere.of_job(job.spec, job.mask == "file", job.acceleration) if one.elsewhere else []
        for shape in {volume.image_shape for volume in [*job.volumes, *others]}:
            reconstructor.check_image_size(shape)
    autocast(reconstructor.device, config.precision)


def _require_apart(found: Sequence[Evaluation]) -> None:
    """Raise an InputError where two things would write to one folder."""
    places: dict[Path, str] = {}
    for one in found:
        for job in one.jobs:
            place = job.folder.resolve()
            if place in places:
                raise InputError(f"{places[place]} and {one.word} have one folder, {job.folder}: give --output DIR")
            places[place] = one.word


def _is_file_of_weights(word: str) -> bool:
    return Path(word).is_file() and word not in METHODS and checkpoint_in_run(word) is None


def _dataset(config: EvaluateConfig, job: Job, reconstructor: Reconstructor, draw: int) -> SliceDataset:
    return SliceDataset(
        job.volumes,
        mask=job.spec,
        needs=(*reconstructor.needs, "image"),
        slices=config.data.slices or None,
        draw=draw,
        protocol=find_protocol(config.protocol),
        object_masks=needed(chosen_metrics(config.metrics), OBJECT_MASK) or bool(spread_name(config)),
    )
