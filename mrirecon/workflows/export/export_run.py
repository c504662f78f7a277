"""A trained network as files that work without its run, each compared with the run, and a model card."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from mrirecon.config import ExportConfig, ModelConfig, TrainConfig
from mrirecon.configfile import load
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.folder import open_folder, select_volumes
from mrirecon.data.folders.manifest import data_manifest
from mrirecon.data.mask_choice import mask_spec
from mrirecon.data.samples import Sample
from mrirecon.data.transforms import apply_mask, image_statistics, reduced
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.files import new_folder, read_json, require_free, write_text
from mrirecon.models.device import inference
from mrirecon.physics import expand_coils, fft2c
from mrirecon.progress import say
from mrirecon.report.text.card import Artefact, CardFacts, model_card
from mrirecon.runs import RunFolder, open_run, provenance
from mrirecon.training.build import load_reconstructor, read_design
from mrirecon.training.deployable import INPUTS, Deployable, deployable
from mrirecon.training.prediction import TrainedNetwork
from mrirecon.workflows.export.formats import (
    FORMATS,
    Runs,
    Size,
    quiet_libraries,
    require_formats,
    require_graphs,
    write_any_size,
)

LIMIT = 1e-4  # largest relative difference, ||a - b|| / ||b||, of an exported image from the run's
CARD = "README.md"
_CPU = torch.device("cpu")
_PER_SIZE = 3  # check images of each size
_N_SIZES = 3  # of check images
AT_LEAST = 3  # check images


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
    require_graphs(names, network, f"a network {trained.model.name}")
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


@dataclass(frozen=True)
class CheckImages:
    """Batches of images, each of one size, and where they come from in words."""

    batches: list[Sample]
    source: str

    @property
    def n_images(self) -> int:
        """Images of all batches together."""
        return sum(len(batch.image) for batch in self.batches)


def training_volumes(trained: TrainConfig) -> tuple[list[Volume], list[Volume]] | None:
    """The volumes that a run was trained and validated on, or None where they are gone."""
    config, seed = trained.data, trained.seed
    if not Path(config.path).is_dir():
        return None
    try:
        folder = open_folder(config, seed)
        train = select_volumes(folder.volumes("train"), config, seed)
        return train, select_volumes(folder.volumes("val"), config, seed, trained.val_volumes)
    except InputError as error:
        say(f"note: the training data cannot be read any more ({error})")
        return None


def find_images(trained: TrainConfig, data: str, validation: Sequence[Volume] | None, smallest: int) -> CheckImages:
    """Images of the folder `data`, else of the validation volumes of the run, else made-up ones.

    Args:
        trained: The run's configuration: masks, and what the network sees.
        data: A data folder; its val split, or all of it where there is none.
        validation: Of `training_volumes`.
        smallest: Height and width from which on the network takes images.

    Raises:
        InputError: `data` has nothing to read.
    """
    volumes, source = validation, "validation slices of the training data"
    if data:
        config = replace(trained.data, path=data, acquisition=[], volumes=0, slices=[])
        folder = open_folder(config, trained.seed)
        volumes = select_volumes(folder.splits.get("val") or folder.files, config, trained.seed)
        trained, source = replace(trained, data=config), "slices of other data than the training's"
    batches = _slices(trained, volumes) if volumes else []
    missing = AT_LEAST - sum(len(batch.image) for batch in batches)
    if missing > 0:
        source = f"{source} and made-up smooth images" if batches else "made-up smooth images"
        batches += _made_up(max(48, smallest), trained.model)
    return CheckImages(batches, source)


def _slices(trained: TrainConfig, volumes: Sequence[Volume]) -> list[Sample]:
    spec = mask_spec(trained.data, volumes)
    dataset = SliceDataset(
        volumes,
        spec,
        needs=read_design(trained.model).needs,
        slices=trained.data.slices or None,
    )
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, shape in enumerate(dataset.batch_shapes):
        by_shape.setdefault(shape, []).append(i)
    return [default_collate([dataset[i] for i in _spread(items)]) for items in list(by_shape.values())[:_N_SIZES]]


def _spread(items: list[int]) -> list[int]:
    """Up to three of them, away from the ends, where slices are empty."""
    return sorted({items[len(items) * k // (_PER_SIZE + 1)] for k in range(1, _PER_SIZE + 1)})


def _made_up(size: int, model: ModelConfig) -> list[Sample]:
    """Three images of two sizes: a few smooth bumps with a smooth phase; k-space of them for networks that see it."""
    generator = torch.Generator().manual_seed(0)
    sizes = [[(size + 8, size)] * 2, [(size + 3, size + 13)]]
    samples = [[_made_up_sample(shape, generator) for shape in shapes] for shapes in sizes]
    needs = read_design(model).needs
    if "kspace" in needs:
        samples = [[reduced(_undersampled(one, model), needs) for one in group] for group in samples]
    return [default_collate(group) for group in samples]


def _undersampled(sample: Sample, model: ModelConfig) -> Sample:
    """K-space of a made-up image, every other column and a full centre; of one coil where the network takes no more."""
    height, width = sample.combined.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    smaps = torch.stack([torch.polar(torch.exp(-((x - at) ** 2)), at * y) for at in (-1.0, 0.0, 1.0)])
    images = expand_coils(sample.combined, smaps) if model.sens_channels else sample.combined.unsqueeze(0)
    n_center = width // 8
    columns = torch.arange(width) % 2 == 0
    start = (width - n_center + 1) // 2
    columns[start : start + n_center] = True
    return sample._replace(
        masked_kspace=apply_mask(fft2c(images), columns), mask=columns, n_center=n_center, crop_shape=(height, width)
    )


def _made_up_sample(shape: tuple[int, int], generator: torch.Generator) -> Sample:
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = torch.zeros(shape)
    for cy, cx, width, height in (torch.rand(6, 4, generator=generator)).tolist():
        image += (0.2 + height) * torch.exp(-((y - cy + 0.5) ** 2 + (x - cx + 0.5) ** 2) / (0.05 + width / 4))
    phase: Tensor = 2 * x * y + torch.rand(1, generator=generator)
    combined = torch.polar(image, phase)
    return Sample(image, torch.empty(0), *image_statistics(image), 0.0, "made-up", 0, 1.0, 1.0, "", combined)


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
        "kspace": lambda: batch.masked_kspace,
        "mask": lambda: batch.mask,
        "n_center": lambda: torch.as_tensor(batch.n_center),
        "smaps": lambda: batch.smaps,
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
