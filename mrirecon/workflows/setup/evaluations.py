"""Make and check all that an evaluation needs before its first slice is read: volumes, masks, methods, places.

`read_call` turns the configuration into what is to be done, `prepare` opens its data; later stages see neither.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mrirecon import ranks
from mrirecon.config import DataConfig, EvaluateConfig, ModelConfig
from mrirecon.configfile import require_ranges
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.check import check_slices
from mrirecon.data.folders.folder import open_split, require_targets
from mrirecon.data.folders.volume_files import h5_files, split_folders
from mrirecon.data.mask_choice import MaskSpec, check_masks, evaluation_mask, mask_spec, uses_own
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation import FASTMRI_V1, find_protocol
from mrirecon.evaluation.regions import OF_FILES, OF_MASKS, Box, read_annotations
from mrirecon.files import require_free
from mrirecon.models.device import autocast, choose_device
from mrirecon.progress import warn
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.reconstruct.find import check_method, find_reconstructor
from mrirecon.reconstruct.network import NetworkUse
from mrirecon.reconstruct.options import MethodCall, read_methods
from mrirecon.runs import RunFolder, checkpoint_in_run, run_of
from mrirecon.tables.methods import METHODS
from mrirecon.tables.metrics import OBJECT_MASK, chosen_metrics, needed
from mrirecon.workflows.scoring.choose_options import Choice, Elsewhere, choose, open_elsewhere
from mrirecon.workflows.scoring.loop import Scoring
from mrirecon.workflows.scoring.watchers import figure_slices, find_boxes, named_volumes
from mrirecon.workflows.setup.several_reconstructions import SpreadCall, read_spread
from mrirecon.workflows.setup.source_files import other_sampling

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Thing:
    """A method, a run or a file of weights that a call names, to be scored."""

    word: str
    method: MethodCall | None  # None: a run or a file of weights
    use: NetworkUse  # with those options and keys of the call that it has


@dataclass(frozen=True)
class Call:
    """An evaluation that is asked for, checked as far as that goes without its data."""

    things: list[Thing]
    data: DataConfig  # folder, selection and masks
    split: str  # or auto
    seed: int
    draws: int  # of masks
    scoring: Scoring
    spread: SpreadCall
    regions: str
    figures: list[int]
    figure_volumes: list[str]
    save: bool
    output: str
    overwrite: bool
    device: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Pass:
    """Volumes that are scored together under masks of one acceleration, and the folder for their tables."""

    mask: str
    acceleration: float | None  # nominal; None: that of each file, which are several
    volumes: list[Volume]
    spec: MaskSpec
    draws: int
    pictured: list[tuple[str, int]]  # volume and number of the slices that are drawn
    named: Mapping[str, str]  # what names its folder besides: data, split, protocol; see `RunFolder.evaluation`
    folder: Path = Path()

    @property
    def times(self) -> str:
        """The acceleration in words."""
        return "mixed" if self.acceleration is None else f"{self.acceleration:g}x"

    def place(self, run: RunFolder) -> Path:
        """The folder of its tables in a run folder."""
        return run.evaluation(**self.named, mask=self.mask, times=self.times)


@dataclass(frozen=True)
class Evaluation:
    """One thing that is scored: what reconstructs, on what, and what is to be said and drawn."""

    word: str  # as it was called
    output: str  # folder that the call gives it; empty: none
    reconstructor: Reconstructor  # what it leaves open is at the first value tried
    passes: list[Pass]
    scoring: Scoring
    object_masks: bool  # slices come with those of their files
    boxes: list[Box] | None  # that are scored besides; None: no regions are
    save: bool  # prediction files
    seed: int  # of intervals
    facts: Mapping[str, Any]  # what summary.json says of the call
    method: MethodCall | None
    elsewhere: Elsewhere | None  # where what it leaves open is chosen
    make: Callable[[Mapping[str, Any]], Reconstructor]  # of values of that

    def dataset(self, one: Pass, draw: int) -> SliceDataset:
        """The slices of a pass under one of its mask draws."""
        return SliceDataset(
            one.volumes,
            mask=one.spec,
            needs=(*self.reconstructor.needs, "image"),
            slices=self.scoring.slices,
            draw=draw,
            protocol=self.scoring.protocol,
            object_masks=self.object_masks,
        )

    def chosen(self, one: Pass) -> tuple[Reconstructor, Choice | None]:
        """Return the reconstructor of a pass; where the call leaves something open it is chosen first."""
        if self.elsewhere is None or self.method is None:
            return self.reconstructor, None
        volumes = self.elsewhere.of_pass(one.spec, one.mask == "file", one.acceleration)
        choice = choose(self.method.tried, self.make, self.scoring, volumes, one.spec, self.elsewhere.split)
        return self.make(choice.values), choice


def read_call(config: EvaluateConfig, words: Sequence[str]) -> Call:
    """Read a configuration and the names of what is scored, without the data.

    Raises:
        InputError: A name, an option or a number that no evaluation takes.
    """
    metrics = chosen_metrics(config.metrics)
    require_ranges(config)
    spread = read_spread(config)
    if config.ensemble and len(words) > 1:
        raise InputError("--ensemble joins further runs to one; evaluate that one alone")
    if config.regions not in ("", OF_FILES, OF_MASKS):
        read_annotations(config.regions)
    for word in words:
        if words.count(word) > 1:
            raise InputError(f"{word} is given twice; give each once")
    methods = read_methods(words, config.method)
    for method in methods:
        if method:
            check_method(method)
    are_files = [
        Path(word).is_file() and method is None and checkpoint_in_run(word) is None
        for word, method in zip(words, methods, strict=True)
    ]
    things = []
    for word, method, is_file in zip(words, methods, are_files, strict=True):
        use = config
        if len(words) > 1:
            given = {key: value for key, value in config.method.items() if method and key in method.options}
            model = config.model if is_file or not any(are_files) else ModelConfig()  # which is said of files alone
            use = replace(config, method=given, model=model)
        things.append(Thing(word, method, use))
    slices = config.data.slices or None
    protocol = find_protocol(config.protocol)
    return Call(
        things=things,
        data=config.data,
        split=config.split,
        seed=config.seed,
        draws=config.mask_draws,
        scoring=Scoring(protocol, metrics, slices, config.batch_size, config.data.workers),
        spread=spread,
        regions=config.regions,
        figures=config.figures,
        figure_volumes=config.figure_volumes,
        save=config.save,
        output=config.output,
        overwrite=config.overwrite,
        device=config.device,
        precision=config.precision,
        threads=config.threads,
    )


def prepare(call: Call) -> list[Evaluation]:
    """Open and check everything that a call is about, and find what reconstructs; nothing is computed.

    Raises:
        InputError: The call or the data is wrong, or results are there already.
    """
    if call.threads:
        torch.set_num_threads(call.threads)
    device, protocol, slices = choose_device(call.device), call.scoring.protocol, call.scoring.slices
    with ranks.agreeing():
        split, notes = _split(call)
        volumes = open_split(call.data, split, call.seed, halve_val=protocol.halves_val)
        require_targets(volumes, "evaluation", "remove them or choose another --split")
        boxes, said = find_boxes(call.regions, volumes, slices) if call.regions else (None, "")
        passes = _passes(call, split, volumes)
        open_ones = [(thing.word, thing.method) for thing in call.things if thing.method and thing.method.tried]
        elsewhere = None
        if open_ones:
            word, method = open_ones[0]
            elsewhere = open_elsewhere(call.data, split, call.seed, protocol, word, next(iter(method.tried[0])))
        found: list[Evaluation] = []
        for thing in call.things:
            find = partial(_find, thing, device, call.data.path)
            reconstructor = call.spread.of(find(thing.word), thing.word, find)
            output = call.output if len(call.things) == 1 else _own_output(call.output, reconstructor.name, found)
            found.append(
                Evaluation(
                    word=thing.word,
                    output=output,
                    reconstructor=reconstructor,
                    passes=_placed(passes, output, reconstructor),
                    scoring=call.scoring,
                    object_masks=needed(call.scoring.metrics, OBJECT_MASK) or bool(call.spread.name),
                    boxes=boxes,
                    save=call.save,
                    seed=call.seed,
                    facts={**call.spread.facts(), "data": str(call.data.path), "split": split, "slices": slices},
                    method=thing.method,
                    elsewhere=elsewhere if thing.method and thing.method.tried else None,
                    make=partial(find, thing.word),
                )
            )
        for one in found:
            _check(one, call.overwrite, call.precision)
        _require_apart(found)
    if said:
        notes = [*notes, f"regions: {said}"]
    for note in [*notes, *(_seen(call.things, volumes) if len(call.things) > 1 else [])]:
        warn(f"note: {note}")
    own_masks = [volume for each in passes if each.mask == "file" for volume in each.volumes]
    for one in found:
        if note := other_sampling(own_masks, one.reconstructor):
            warn(f"note: {note}")
    return found


def _find(
    thing: Thing, device: torch.device, data: str, word: str, values: Mapping[str, Any] | None = None
) -> Reconstructor:
    """Find what a thing, or a further run of its ensemble, reconstructs with; what is left open at `values`."""
    tried = thing.method.tried[:1] if thing.method else ()
    return find_reconstructor(word, thing.use, device, data, values or dict(*tried))


def _seen(things: Sequence[Thing], volumes: Sequence[Volume]) -> list[str]:
    """One line for each run that was trained on some of the volumes, as another run's split may have it."""
    notes = []
    for word in (thing.word for thing in things):
        run = run_of(word)
        seen = {volume.name for volume in volumes}.intersection(run.volumes().get("train", ()) if run else ())
        if seen:
            notes.append(
                f"{word} was trained on {len(seen)} of the {len(volumes)} volumes ({min(seen)}): its scores are "
                "optimistic"
            )
    return notes


def _split(call: Call) -> tuple[str, list[str]]:
    """The split that is scored, and what has to be said where `auto` became something else than one may think.

    Raises:
        InputError: Several things whose splits are not the same one.
    """
    if call.split != "auto":
        return call.split, []
    root = Path(call.data.path)
    if not call.data.path or not root.is_dir() or split_folders(root, call.data.coils):
        return "val", []
    names = {path.name for path in h5_files(root)}
    found = {thing.word: _split_of_flat(root, names, thing.word) for thing in call.things}
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


def _passes(call: Call, split: str, volumes: Sequence[Volume]) -> list[Pass]:
    """One per acceleration; files that keep a mask of their own are scored once, all together."""
    protocol = call.scoring.protocol
    spec = mask_spec(call.data, volumes, protocol.mask_rule)
    own = [volume for volume in volumes if uses_own(volume, spec)]
    drawn = [volume for volume in volumes if volume not in own]
    pictured = named_volumes(call.figure_volumes, volumes)

    def made(mask: str, acceleration: float | None, scored: list[Volume], only: MaskSpec, draws: int) -> Pass:
        wanted = figure_slices(scored, check_slices(scored, call.scoring.slices), call.figures, pictured)
        return Pass(mask, acceleration, scored, only, draws, wanted, named)

    named = {
        "data": Path(call.data.path).resolve().name,
        "split": split,
        "protocol": "-".join(
            filter(None, ["" if protocol.name == FASTMRI_V1.name else protocol.name, call.spread.name])
        ),
    }
    passes = []
    if drawn:
        passes += [made(spec.name, float(r), drawn, spec.only(i), call.draws) for i, r in enumerate(spec.accelerations)]
    if own:
        nominal = {round(evaluation_mask(volume, spec).acceleration) for volume in own}
        passes.append(made("file", float(*nominal) if len(nominal) == 1 else None, own, spec.only(0), 1))
    return passes


def _own_output(output: str, name: str, before: Sequence[Evaluation]) -> str:
    """The folder of one of several things: below --output each has one of its name."""
    if not output:
        return ""
    taken, n = {one.output for one in before}, 2
    own = path = Path(output) / name
    while str(own) in taken:
        own, n = path.with_name(f"{path.name}-{n}"), n + 1
    return str(own)


def below(output: str, one: Pass, n_passes: int) -> Path:
    """The folder of a pass below --output, which is that itself where there is one pass."""
    return Path(output) if n_passes == 1 else Path(output) / f"{one.mask}-{one.times}"


def _placed(passes: Sequence[Pass], output: str, reconstructor: Reconstructor) -> list[Pass]:
    if reconstructor.given and not output and reconstructor.run.config.is_file():
        raise InputError(
            f"{reconstructor.run.path} is a run; its folder is not for {reconstructor.given['source']}: give --output"
        )
    folders = []
    for one in passes:
        folder = one.place(reconstructor.run)
        if not output:
            reconstructor.run.require_inside(folder)
        folders.append(below(output, one, len(passes)) if output else folder)
    return [replace(one, folder=folder) for one, folder in zip(passes, folders, strict=True)]


def _check(one: Evaluation, overwrite: bool, precision: str) -> None:
    """Everything that can be wrong is found before the first slice is read."""
    for scored in one.passes:
        require_free(scored.folder, SUMMARY, overwrite)
        one.dataset(scored, 0)
        check_masks(scored.volumes, scored.spec)
        others = one.elsewhere.of_pass(scored.spec, scored.mask == "file", scored.acceleration) if one.elsewhere else []
        for shape in {volume.image_shape for volume in [*scored.volumes, *others]}:
            one.reconstructor.check_image_size(shape)
    autocast(one.reconstructor.device, precision)


def _require_apart(found: Sequence[Evaluation]) -> None:
    """Raise an InputError where two things would write to one folder."""
    places: dict[Path, str] = {}
    for one in found:
        for scored in one.passes:
            place = scored.folder.resolve()
            if place in places:
                raise InputError(f"{places[place]} and {one.word} have one folder, {scored.folder}: give --output DIR")
            places[place] = one.word
