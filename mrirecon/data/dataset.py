"""Slices of many volumes as a map-style data set."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from mrirecon.config import AugmentConfig
from mrirecon.data.augment import augmented, draw, moves_reference
from mrirecon.data.folders.check import check_slices
from mrirecon.data.folders.volume_files import list_volumes
from mrirecon.data.mask_choice import (
    MaskSpec,
    evaluation_mask,
    mask_id,
    named_masks,
    sampled_center,
    stored_mask,
    training_mask,
    uses_own,
)
from mrirecon.data.samples import ON_THE_KSPACE_GRID, Sample, check_needs
from mrirecon.data.transforms import apply_mask, reduced
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation.protocol import FASTMRI_V1, Protocol
from mrirecon.physics import Mask
from mrirecon.tables.augmentations import amounts, check_amounts


class SliceDataset(Dataset[Any]):
    """Undersampled slices of a folder or of a list of volumes.

    `dataset[i]` has the volume's evaluation mask (fastMRI's for the file's name); `dataset[i, seed]`
    has a training mask drawn from `seed`; `dataset[i, seed, other_seed]` is augmented before the mask,
    as drawn from `other_seed`. With several accelerations one (acceleration, center fraction) pair is
    drawn with the mask; evaluate one of them with an own data set.

    Args:
        volumes: A folder of `.h5` files, or volumes.
        mask: One of `mask_names()` (see `named_masks`) or a `MaskSpec`. None: nothing is undersampled but by a file's
            own mask.
        acceleration: Nominal acceleration, or several; of a name.
        center_fraction: Share of fully sampled columns for each acceleration; None: 0.32 / R.
        needs: What samples carry, names of `NEEDS`: `("image",)`, `("kspace", "mask", "smaps")`, ...
        transform: Made of the sample, for example `to_image`.
        slices: First and last slice used of each volume, counted from 0, both included; None: all.
        draw: Which evaluation mask; 0 is fastMRI's.
        targets: Off: references are never read, as if the files had none.
        protocol: Decides the evaluation masks and what the data range is.
        object_masks: On: samples have the object masks that files hold, for metrics that ask; augmented ones do not.
        augment: How far slices are augmented that are asked for with a seed of that.

    Raises:
        InputError: A file, a name or a range that does not fit, or files that cannot be augmented so.
    """

    def __init__(
        self,
        volumes: str | os.PathLike[str] | Sequence[Volume],
        mask: str | MaskSpec | None = "random",
        acceleration: float | Sequence[float] = 4,
        center_fraction: float | Sequence[float] | None = None,
        *,
        needs: Sequence[str] = ("kspace", "mask"),
        transform: Callable[[Sample], Any] | None = None,
        slices: Sequence[int] | None = None,
        draw: int = 0,
        targets: bool = True,
        protocol: Protocol = FASTMRI_V1,
        object_masks: bool = False,
        augment: AugmentConfig | None = None,
    ) -> None:
        if isinstance(volumes, str | os.PathLike):
            volumes = list_volumes(Path(volumes))
        self.volumes = list(volumes)
        self.spec: MaskSpec | None = None
        if isinstance(mask, MaskSpec):
            self.spec = mask
        elif mask is not None:
            self.spec = named_masks(mask, self.volumes, acceleration, center_fraction, protocol.mask_rule)
        self.range_attribute = protocol.range_attribute
        self.needs, self.transform = check_needs(needs), transform
        self.draw, self.targets = draw, targets
        self.with_object_mask = {volume.name for volume in self.volumes if object_masks and volume.has_object_mask}
        if self.range_attribute:
            for volume in self.volumes:
                _stored_range(volume, self.range_attribute)
        self.amounts = {} if augment is None else amounts(augment)
        check_amounts(self.amounts)
        self.moves_reference = [moves_reference(volume, self.amounts) for volume in self.volumes if self.amounts]
        spans = check_slices(self.volumes, slices)
        self.items = [(v, i) for v, span in enumerate(spans) for i in span]

    @property
    def image_shapes(self) -> list[tuple[int, int]]:
        """`(height, width)` of each item's image, known without reading k-space."""
        return [self.volumes[v].image_shape for v, _ in self.items]

    @property
    def batch_shapes(self) -> list[tuple[int, ...]]:
        """Shape that the items of a batch share: their image's and, where they carry more than images, k-space's.

        Of a `transform`, which may make anything, an image is taken to be what is left.
        """
        if self.transform is not None or ON_THE_KSPACE_GRID.isdisjoint(self.needs):
            return list(self.image_shapes)
        return [(*self.volumes[v].image_shape, *self.volumes[v].shape[1:]) for v, _ in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int | tuple[int, int | Sequence[int]] | tuple[int, int | Sequence[int], int]) -> Any:
        i, seed, *of_augmentation = index if isinstance(index, tuple) else (index, None)
        v, slice_idx = self.items[i]
        volume = self.volumes[v]
        sample = self._sample(volume, slice_idx, self._mask(volume, seed))
        kspace = torch.from_numpy(volume.kspace(slice_idx))
        if self.amounts and of_augmentation:
            kspace, sample = self._augmented(v, kspace, sample, of_augmentation[0])
        sample = reduced(sample._replace(masked_kspace=apply_mask(kspace, sample.mask)), self.needs)
        return sample if self.transform is None else self.transform(sample)

    def scoring_mask(self, volume: Volume) -> Mask:
        """The mask that all slices of a volume are scored with."""
        return self._mask(volume, None)

    def has_own_mask(self, volume: Volume) -> bool:
        """Return whether a volume is undersampled with a mask of its own."""
        return volume.own_mask is not None if self.spec is None else uses_own(volume, self.spec)

    def _mask(self, volume: Volume, seed: int | Sequence[int] | None) -> Mask:
        if self.spec is None:
            return stored_mask(volume)
        return evaluation_mask(volume, self.spec, self.draw) if seed is None else training_mask(volume, self.spec, seed)

    def _sample(self, volume: Volume, slice_idx: int, mask: Mask) -> Sample:
        target, data_range = torch.empty(0), 0.0
        shows_object = volume.name in self.with_object_mask
        if self.targets and volume.has_target:
            target = torch.from_numpy(volume.target(slice_idx))
            stored = _stored_range(volume, self.range_attribute)
            data_range = volume.data_range if stored is None else stored
        nothing = torch.empty(0)
        return Sample(
            image=nothing,
            target=target,
            mean=nothing,
            std=nothing,
            data_range=data_range,
            volume=volume.name,
            slice_idx=slice_idx,
            acceleration=float(mask.acceleration),
            acceleration_true=mask.acceleration_true,
            mask_id=mask_id(mask),
            mask=mask.columns,
            n_center=sampled_center(volume, mask),
            crop_shape=volume.image_shape,
            object_mask=torch.from_numpy(volume.object_mask(slice_idx)) if shows_object else torch.empty(0),
            noise_covariance=self._noise_covariance(volume),
        )

    def _augmented(self, v: int, kspace: torch.Tensor, sample: Sample, seed: int) -> tuple[torch.Tensor, Sample]:
        """K-space, and the sample with its reference, of another object under the same mask."""
        drawn, volume = draw(self.amounts, seed), self.volumes[v]
        if drawn.is_nothing:
            return kspace, sample
        kspace, target = augmented(
            kspace, sample.target, drawn, volume.acquired, volume.image_shape, self.moves_reference[v]
        )
        return kspace, sample._replace(target=target, object_mask=torch.empty(0))

    def _noise_covariance(self, volume: Volume) -> torch.Tensor:
        if "noise" not in self.needs:
            return torch.empty(0)
        stored = volume.noise_covariance()
        return torch.zeros(volume.n_coils, volume.n_coils) if stored is None else torch.from_numpy(stored)


def _stored_range(volume: Volume, attribute: str) -> float | None:
    """The data range that the file's attribute gives, where there is one of that name."""
    value = volume.attrs.get(attribute)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise InputError(f"{volume.name}: its attribute '{attribute}' is {value!r}, not a number above 0; correct it")
    return float(value)
