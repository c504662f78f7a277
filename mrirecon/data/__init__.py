"""Reading k-space: files of the fastMRI layout, their splits, masks and training samples.

Names are loaded when they are first used, so that importing this package costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for type checkers and editors (tested)
    from mrirecon.data.dataset import SliceDataset
    from mrirecon.data.folders.check import check_volumes
    from mrirecon.data.folders.folder import DataFolder, open_folder, open_split
    from mrirecon.data.hdf5.write import write_volume
    from mrirecon.data.header import Header
    from mrirecon.data.loading.datamodule import ReconDataModule
    from mrirecon.data.mask_choice import MaskSpec, evaluation_mask, mask_id, resolve_mask_name, training_mask
    from mrirecon.data.samples import Sample
    from mrirecon.data.transforms import ImageSample, KSpaceSample, normalize, to_image, unnormalize
    from mrirecon.data.volume import Volume

_HOMES = {
    "DataFolder": "folders.folder",
    "Header": "header",
    "ImageSample": "transforms",
    "KSpaceSample": "transforms",
    "MaskSpec": "mask_choice",
    "ReconDataModule": "loading.datamodule",
    "Sample": "samples",
    "SliceDataset": "dataset",
    "Volume": "volume",
    "check_volumes": "folders.check",
    "evaluation_mask": "mask_choice",
    "mask_id": "mask_choice",
    "normalize": "transforms",
    "open_folder": "folders.folder",
    "open_split": "folders.folder",
    "resolve_mask_name": "mask_choice",
    "to_image": "transforms",
    "training_mask": "mask_choice",
    "unnormalize": "transforms",
    "write_volume": "hdf5.write",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
