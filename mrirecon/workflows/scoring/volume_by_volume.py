"""Reading many volumes, one after the other, in the memory of one."""

from typing import Any

from torch.utils.data import Dataset

from mrirecon.data.dataset import SliceDataset
from mrirecon.models.memory import give_back_freed_memory


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
