"""The description of one fastMRI file, as an object and as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mrirecon.data.header import Header


@dataclass(frozen=True)
class Facts:
    """The description of one file; small, and pickled with its volume."""

    shape: tuple[int, int, int, int]  # slices, coils, height, width
    single_coil: bool
    header: Header
    image_shape: tuple[int, int]
    target_key: str | None
    file_mask: np.ndarray | None  # bool (width,)
    attrs: dict[str, Any]
    n_bytes: int  # of kspace and target as stored in memory

    def to_plain(self) -> dict[str, Any]:
        """All of it as values that JSON can hold."""
        mask = None if self.file_mask is None else (self.file_mask + np.uint8(ord("0"))).tobytes().decode()
        return {**vars(self), "header": asdict(self.header), "file_mask": mask}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Facts":
        """The same description again, of what `to_plain` gave, also by way of JSON."""
        mask = plain["file_mask"]
        header: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain["header"].items()}
        return cls(
            **{
                **plain,
                "shape": tuple(plain["shape"]),
                "image_shape": tuple(plain["image_shape"]),
                "file_mask": None if mask is None else np.frombuffer(mask.encode(), np.uint8) == ord("1"),
                "header": Header(**header),
            }
        )
