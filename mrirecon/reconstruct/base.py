"""A reconstructor: anything that maps a sample to an image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mrirecon.data.samples import Sample
from mrirecon.errors import InputError
from mrirecon.models.device import autocast
from mrirecon.runs import RunFolder


@dataclass(frozen=True)
class Reconstructor:
    """Maps a batch of samples to images `(batch, height, width)` in the units of the target."""

    name: str
    reconstruct: Callable[[Sample], Tensor]
    run: RunFolder  # where its evaluations go
    device: torch.device
    precision: str = "fp32"
    checkpoint: str = ""  # which one, or `given` for a file of weights; empty for methods
    check_image_size: Callable[[Sequence[int]], None] = lambda _shape: None  # raises for images that are too small
    needs: tuple[str, ...] = ("image",)  # what it is given of a slice; see mrirecon/data/samples.py
    weights_sha256: str = ""  # of the checkpoint; empty for methods
    bn_stats: str = "running"  # the statistics that BatchNorm normalises with
    given: dict[str, Any] = field(default_factory=dict)  # where the weights of a file come from
    options: Mapping[str, Any] = field(default_factory=dict)  # what its images depend on besides, where not default
    method_options: Mapping[str, Any] = field(default_factory=dict)  # all that a method is set to; empty for networks

    def __call__(self, sample: Sample) -> Tensor:
        """Return the images `(batch, height, width)`; only the reconstruction itself runs in the chosen precision.

        Raises:
            InputError: Images that are not finite: k-space, weights or precision are not fit for it.
        """
        with autocast(self.device, self.precision):
            images = self.reconstruct(sample).float()
        is_bad = ~torch.isfinite(images).flatten(1).all(1)
        if is_bad.any():
            first = int(is_bad.nonzero()[0])
            raise InputError(
                f"{self.name} gives NaN or infinity in slice {torch.as_tensor(sample.slice_idx).tolist()[first]} of "
                f"{sample.volume[first]}; use --precision fp32, another checkpoint, or repair the file"
            )
        return images


def require_size(name: str, smallest: int, shape: Sequence[int]) -> None:
    """Raise an InputError for images `(height, width)` of fewer than `smallest` pixels on a side."""
    if min(shape) < smallest:
        size = " x ".join(str(int(n)) for n in shape)
        raise InputError(
            f"images of {size} pixels are too small: {name} needs {smallest} x {smallest}; use larger images"
        )
