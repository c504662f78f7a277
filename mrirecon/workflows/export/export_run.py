"""A trained network as files that work without its run, each compared with the run, and a model card."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrirecon.config import ExportConfig, ModelConfig, TrainConfig
from mrirecon.configfile import load
from mrirecon.data.folders.manifest import data_manifest
from mrirecon.data.samples import Sample
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.files import read_json, write_text
from mrirecon.models.device import inference
from mrirecon.progress import say
from mrirecon.report.text.card import Artefact, CardFacts, model_card
from mrirecon.runs import RunFolder, open_run
from mrirecon.training.build import load_reconstructor
from mrirecon.training.deployable import INPUTS, Deployable, deployable
from mrirecon.training.prediction import TrainedNetwork
from mrirecon.workflows.export.artefacts import FORMATS, Runs, Size, quiet_libraries, require_formats, write_any_size
from mrirecon.workflows.export.check_images import CheckImages, find_images, training_volumes
from mrirecon.workflows.outputs.new_folder import new_folder, require_free
from mrirecon.workflows.setup.provenance import provenance

LIMIT = 1e-4  # largest relative difference, ||a - b|| / ||b||, of an exported image from the run's
CARD = "README.md"
_CPU = torch.device("cpu")


def export(config: ExportConfig, path: str) -> Path:
    """Write the files, compare what they compute with the run's own reconstructions, and describe them in a card.

    Args:
        config: Formats, checkpoint, check images, where to write.
        path: A run folder.

    Returns:
        The folder; it appears when every file has passed.

    Raises:
        InputError: The call, the run or the data is wrong; nothing was written.
        WorkFailedError: A file cannot be written, or differs from the run by more than `LIMIT`; none is kept.
    """
    names = list(dict.fromkeys(config.format))
    require_formats(names)
    run = open_run(path)
    folder = Path(config.output) if config.output else run.export
    require_free(folder, CARD, config.overwrite)
    trained = load(TrainConfig, run.config)
    module = load_reconstructor(run, config.checkpoint)
    network = deployable(module.model, trained.model)
    volumes = training_volumes(trained)
    images = find_images(trained, config.data, volumes[1] if volumes else None, network.smallest_size)
    say(f"check images: {images.n_images} {images.source}")
    with new_folder(folder) as temporary:
        artefacts = [_make(name, temporary, network, trained.model, module, images) for name in names]
        facts = CardFacts(
            run=run,
            checkpoint=config.checkpoint,
            inputs={name: INPUTS[name] for name in network.inputs},
            n_parameters=sum(p.numel() for p in network.parameters()),
            smallest_size=network.smallest_size,
            artefacts=artefacts,
            n_images=images.n_images,
            checked_on=images.source,
            data=_data_facts(run, volumes),
            made_with=provenance(),
            step=module.trained_steps,
        )
        try:
            card = model_card(facts)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # what stands where, a stranger decided
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{run.provenance}, {run.curves.name} or an evaluation's summary is not what a run writes ({error}); "
                "restore it, or remove it"
            ) from None
        write_text(temporary / CARD, card)
    print(*(_line(artefact, folder) for artefact in artefacts), f"model card: {folder / CARD}", sep="\n", flush=True)
    return folder


def _make(
    name: str, folder: Path, network: Deployable, config: ModelConfig, module: TrainedNetwork, images: CheckImages
) -> Artefact:
    kind = FORMATS[name]
    path = folder / kind.file
    size = tuple(images.batches[0].image.shape[-2:])
    bound = write_any_size(kind, network, config, path, size)  # type: ignore[arg-type]
    if bound:
        say(f"note: {path.name} takes images of {bound[0]} x {bound[1]} pixels only; its norm cannot be traced for any")
    with quiet_libraries():
        difference = largest_difference(kind.open(path), network.inputs, module, images.batches, bound)
    if not difference <= LIMIT:  # NaN is over the limit too
        raise WorkFailedError(
            f"{path.name} differs from the run by {difference:.1e} (relative; at most {LIMIT:g} is allowed) on "
            f"{images.source}; nothing was published, try another --format"
        )
    return Artefact(name, path.name, path.stat().st_size, difference, bound)


def largest_difference(
    exported: Runs, inputs: Sequence[str], module: TrainedNetwork, batches: Sequence[Sample], size: Size | None
) -> float:
    """The largest relative difference of an exported network from its run over images of `size`; None: of all."""
    found = []
    with inference(_CPU):
        for batch in batches:
            if size is None or tuple(batch.image.shape[-2:]) == size:
                found.append(_relative(exported(*network_inputs(batch, inputs)), module(batch)))
    return float(torch.cat(found).max())  # NaN wins


def network_inputs(batch: Sample, names: Sequence[str]) -> list[Tensor]:
    """Return the inputs of an exported network by the names of `INPUTS`: images `(batch, h, w)`, complex ones
    `(batch, 2, h, w)`.
    """
    make = {
        "image": lambda: batch.image,
        "combined": lambda: torch.view_as_real(batch.combined).movedim(-1, 1).contiguous(),
    }
    return [make[name]() for name in names]


def _relative(image: Tensor, reference: Tensor) -> Tensor:
    error, norm = ((x.double().flatten(1).norm(dim=1)) for x in (image - reference, reference))
    return torch.where(error == 0, error, error / norm)


def _data_facts(run: RunFolder, volumes: tuple[list[Volume], list[Volume]] | None) -> dict[str, Any] | None:
    """Return facts about the volumes, if they are still those of the training."""
    if volumes is None:
        return None
    try:
        stored = read_json(run.provenance)["data_manifest"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    train, validation = volumes
    if data_manifest([*train, *validation])["sha256"] != stored:
        return None
    return {
        "train_volumes": len(train),
        "train_slices": sum(volume.n_slices for volume in train),
        "val_volumes": len(validation),
        "origins": dict(Counter(volume.origin for volume in train)),
        "acquisitions": dict(Counter(volume.acquisition for volume in train)),
    }


def _line(artefact: Artefact, folder: Path) -> str:
    place, size = folder / artefact.file, f"{artefact.n_bytes / 1e6:.2f} MB"
    return f"{artefact.format:<13}{place}  {size}, relative difference from the run {artefact.difference:.1e}"
