"""What a checkpoint may be: an archive with right checksums, of tensors that hold what they claim, weights finite."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import torch
from torch import Tensor

_WEIGHTS = ("state_dict", "training_weights")


def require_archive(handle: BinaryIO, has_hash: bool) -> None:
    """Check that the file is an archive as torch writes it, whose content is not larger than the file.

    Args:
        handle: The file, at its start; and again there afterwards.
        has_hash: A hash of the whole file was checked; else the archive's own checksums are, which torch ignores.

    Raises:
        ValueError: It is compressed, claims more than it holds, or a member was changed.
    """
    with zipfile.ZipFile(handle) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, which a checkpoint never is")
        if sum(member.file_size for member in members) > handle.seek(0, io.SEEK_END):
            raise ValueError("its members claim more than the file holds")
        if not has_hash and (bad := archive.testzip()):
            raise ValueError(f"{bad} in it was changed")
    handle.seek(0)


def require_sound(state: Any) -> None:
    """Check what was loaded.

    Raises:
        TypeError: It is no dictionary.
        ValueError: A tensor is not plain, or claims more than it holds; weights that are complex or not finite.
    """
    if not isinstance(state, dict):
        raise TypeError(f"it holds a {type(state).__name__}")
    for tensor in _tensors(state):
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"it holds a tensor of another kind ({tensor.layout}, {tensor.dtype})")
        if tensor.untyped_storage().nbytes() < tensor.nbytes:
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} claims more than it holds")
    for name in _WEIGHTS:
        require_weights(name, state.get(name))


def require_weights(name: str, content: Any) -> None:
    """Raise a ValueError for complex numbers, NaN or infinity among tensors that are called `name`."""
    for tensor in _tensors(content):
        if tensor.is_complex():
            raise ValueError(f"{name} has complex numbers, which no network here has")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} has NaN or infinity, which no training saves")


def _tensors(content: Any) -> Iterator[Tensor]:
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
