"""The sample that every reconstruction begins with: one slice, with as much made of it as its consumer asks for."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate as collate_by_type
from torch.utils.data._utils.collate import default_collate_fn_map

from mrirecon.errors import unknown_name

# What a consumer may ask for, and the fields that then are filled; all others are always there.
NEEDS = {
    "image": ("image", "mean", "std"),
    "combined": ("combined",),
    "kspace": ("masked_kspace", "n_center", "crop_shape"),
    "mask": ("mask",),
    "smaps": ("smaps",),
    "noise": ("noise_covariance",),
}
ON_THE_KSPACE_GRID = frozenset({"kspace", "mask", "smaps"})  # needs whose arrays are as wide as k-space


class Sample(NamedTuple):
    """One slice of undersampled k-space in the units of the target; tensors that nobody asked for are empty.

    Collated, numbers become tensors `(batch,)`, texts lists, and tensors get a first axis. A batch is of one image
    shape and, where it carries something on the grid of k-space, of one k-space shape.
    """

    image: Tensor  # float32 (h, w), RSS magnitude of the zero-filled image, neither normalised nor clamped
    target: Tensor  # float32 (h, w) as stored; empty where the file has none
    mean: Tensor  # of `image`
    std: Tensor  # of `image`, unbiased
    data_range: float  # maximum of the target over the whole volume; 0 without target
    volume: str
    slice_idx: int
    acceleration: float  # nominal
    acceleration_true: float  # over the measured columns
    mask_id: str
    combined: Tensor = torch.empty(0)  # complex64 (h, w), zero-filled, coils combined
    masked_kspace: Tensor = torch.empty(0)  # complex64 (coils, height, width); exactly +0 where not sampled
    mask: Tensor = torch.empty(0)  # bool (width,)
    smaps: Tensor = torch.empty(0)  # complex64 (coils, height, width), coil sensitivity maps on the grid of k-space
    n_center: int = 0  # fully sampled central columns of `masked_kspace`
    crop_shape: tuple[int, ...] = ()  # (h, w) of the image within the grid of k-space
    object_mask: Tensor = torch.empty(0)  # bool (h, w), where the object is; empty where it is not known
    noise_covariance: Tensor = torch.empty(0)  # complex64 (coils, coils) as stored; 0 where the file has none


def check_needs(needs: Iterable[str]) -> tuple[str, ...]:
    """`needs` in the order of `NEEDS`, each once.

    Raises:
        InputError: A name that is not among them.
    """
    wanted = set(needs)
    for name in sorted(wanted - NEEDS.keys()):
        raise unknown_name("part of a sample", name, NEEDS)
    return tuple(name for name in NEEDS if name in wanted)


def collate(samples: Sequence[Any]) -> Any:
    """Make a batch of samples: equals torch's `default_collate`.

    But empty tensors take no shared memory on their way from a worker process.
    """
    return collate_by_type(samples, collate_fn_map=_BY_TYPE)


def to_device(batch: Sample, device: torch.device, non_blocking: bool = False) -> Sample:
    """Return a batch with its tensors on `device`; with `non_blocking` they may still be on their way to a GPU."""
    return Sample._make(v.to(device, non_blocking=non_blocking) if isinstance(v, Tensor) else v for v in batch)


def uncollated(batch: Sample, k: int) -> Sample:
    """Sample `k` of a batch, on the CPU; its tensors are its own."""
    shape = tuple(int(size[k]) for size in batch.crop_shape)  # type: ignore[index]
    values = {name: _plain(value[k]) for name, value in batch._asdict().items() if name != "crop_shape"}
    return Sample(**values, crop_shape=shape)


def _plain(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.cpu().clone() if value.ndim else value.item()


def _stacked(tensors: Sequence[Tensor], *, collate_fn_map: Any) -> Tensor:
    if not any(t.numel() for t in tensors):
        return torch.stack(list(tensors))
    stacked: Tensor = default_collate_fn_map[Tensor](tensors, collate_fn_map=collate_fn_map)
    return stacked


_BY_TYPE = {**default_collate_fn_map, Tensor: _stacked}
