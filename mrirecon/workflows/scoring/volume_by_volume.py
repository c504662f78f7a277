"""Go through volumes one after the other, in the memory of one: read them so, and hand over their images whole."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mrirecon.data.dataset import SliceDataset
from mrirecon.data.samples import Sample
from mrirecon.data.volume import Volume
from mrirecon.models.device import give_back_freed_memory


class VolumeByVolume(Dataset[Any]):
    """The items of a data set, to be read in order; memory of the last volume goes back before the next one.

    It does so in the process that reads, each worker for itself.
    """

    def __init__(self, dataset: SliceDataset) -> None:
        self.dataset = dataset
        self._volume = -1

    def __getitem__(self, index: int) -> Any:
        volume, _ = self.dataset.items[index]
        if volume != self._volume:
            give_back_freed_memory()
            self._volume = volume
        return self.dataset[index]


class WholeVolumes:
    """Keeps the images of one volume and hands them over when the last one has come.

    Args:
        volumes: All that are reconstructed.
        items: (volume, slice) of every reconstructed slice, volume by volume: the order in which batches come.
        finish: Gets each volume with its images `(slices, height, width)`, float32.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        items: Sequence[tuple[int, int]],
        finish: Callable[[Volume, np.ndarray], None],
    ) -> None:
        self.finish = finish
        self._of_name = {volume.name: volume for volume in volumes}
        self._slices: dict[str, list[int]] = {name: [] for name in self._of_name}
        for v, i in items:
            self._slices[volumes[v].name].append(i)
        self._images: dict[int, np.ndarray] = {}

    def __call__(self, sample: Sample, images: Tensor) -> None:
        """Take the images `(batch, h, w)` of a batch, which are of one volume."""
        name = sample.volume[0]
        for i, image in zip(torch.as_tensor(sample.slice_idx).tolist(), images, strict=True):
            self._images[i] = image.float().cpu().numpy().copy()
        if len(self._images) == len(self._slices[name]):
            stacked = np.stack([self._images.pop(i) for i in self._slices[name]])
            self.finish(self._of_name[name], stacked)
