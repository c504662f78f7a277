"""The images on which an exported network has to agree with its run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import default_collate

from mrirecon.config import TrainConfig
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.folder import open_folder
from mrirecon.data.folders.selection import select_volumes
from mrirecon.data.masking import mask_spec
from mrirecon.data.samples import Sample
from mrirecon.data.transforms import image_statistics
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.progress import say
from mrirecon.training.build import sample_needs

_PER_SIZE = 3  # images of each size
_N_SIZES = 3
AT_LEAST = 3


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
        batches += _made_up(max(48, smallest))
    return CheckImages(batches, source)


def _slices(trained: TrainConfig, volumes: Sequence[Volume]) -> list[Sample]:
    spec = mask_spec(trained.data, volumes)
    dataset = SliceDataset(
        volumes,
        spec,
        needs=sample_needs(trained.model),
        slices=trained.data.slices or None,
    )
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, shape in enumerate(dataset.batch_shapes):
        by_shape.setdefault(shape, []).append(i)
    return [default_collate([dataset[i] for i in _spread(items)]) for items in list(by_shape.values())[:_N_SIZES]]


def _spread(items: list[int]) -> list[int]:
    """Up to three of them, away from the ends, where slices are empty."""
    return sorted({items[len(items) * k // (_PER_SIZE + 1)] for k in range(1, _PER_SIZE + 1)})


def _made_up(size: int) -> list[Sample]:
    """Three images of two sizes: a few smooth bumps with a smooth phase."""
    generator = torch.Generator().manual_seed(0)
    sizes = [[(size + 8, size)] * 2, [(size + 3, size + 13)]]
    return [default_collate([_made_up_sample(shape, generator) for shape in shapes]) for shapes in sizes]


def _made_up_sample(shape: tuple[int, int], generator: torch.Generator) -> Sample:
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = torch.zeros(shape)
    for cy, cx, width, height in (torch.rand(6, 4, generator=generator)).tolist():
        image += (0.2 + height) * torch.exp(-((y - cy + 0.5) ** 2 + (x - cx + 0.5) ** 2) / (0.05 + width / 4))
    phase: Tensor = 2 * x * y + torch.rand(1, generator=generator)
    combined = torch.polar(image, phase)
    return Sample(image, torch.empty(0), *image_statistics(image), 0.0, "made-up", 0, 1.0, 1.0, "", combined)
