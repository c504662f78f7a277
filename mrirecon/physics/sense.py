"""The SENSE model of undersampled multi-coil k-space: `A = M F S`, its adjoint and its normal operator."""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Self

import torch
from torch import Tensor

from mrirecon.physics.coils import combine_coils, expand_coils
from mrirecon.physics.fourier import fft2c, ifft2c


@dataclass(frozen=True)
class Sense:
    """From an image to undersampled k-space and back (Pruessmann et al., SENSE, MRM 1999).

        A x   = M F (S_c x) for each coil c:  the coil's map, centred orthonormal Fourier transform, sampling mask
        A^H y = sum over c of conj(S_c) F^H (M y_c)

    Where the squared magnitudes of the maps add up to 1, `A^H A` has no eigenvalue above 1, and with a full mask it is
    the identity. Images are complex `(..., height, width)`, k-space `(..., coils, height, width)`, in single or double
    precision, on any device; leading dimensions broadcast with those of maps and mask. All three can be differentiated.

    Args:
        smaps: Coil sensitivity maps, complex `(..., coils, height, width)`; of one coil, ones.
        mask: What was sampled, bool: columns `(width,)`, positions `(height, width)`, or with leading dimensions
            `(..., height, width)`, where the height may be 1. See `of_batch` for masks as a loader collates them.

    Raises:
        ValueError: Maps that are not complex, a mask that is not bool, or of another size; an image or k-space, when it
            is given, of another size: one row, column or coil is not repeated.
    """

    smaps: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if not self.smaps.is_complex() or self.smaps.ndim < 3:
            raise ValueError(
                f"smaps must be complex (..., coils, height, width), got {self.smaps.dtype} {tuple(self.smaps.shape)}"
            )
        height, width = self.smaps.shape[-2:]
        rows = self.mask.shape[-2] if self.mask.ndim > 1 else 1
        if self.mask.dtype != torch.bool or self.mask.shape[-1:] != (width,) or rows not in (1, height):
            raise ValueError(
                f"the mask must be bool ({width},), ({height}, {width}) or (..., 1 or {height}, {width}), got "
                f"{self.mask.dtype} {tuple(self.mask.shape)}; of a batch of columns, see Sense.of_batch"
            )

    @classmethod
    def of_batch(cls, smaps: Tensor, mask: Tensor) -> Self:
        """Make the operator (Pruessmann et al. 1999) of maps and masks with the same leading dimensions, as of a batch.

        Args:
            smaps: `(..., coils, height, width)`.
            mask: Columns `(..., width)` or positions `(..., height, width)`.
        """
        are_columns = mask.ndim == smaps.ndim - 2
        return cls(smaps, mask.unsqueeze(-2) if are_columns else mask)

    def forward(self, image: Tensor) -> Tensor:
        """`A x`: k-space `(..., coils, height, width)` of `(..., height, width)`, exactly 0 where not sampled.

        The encoding of SENSE (Pruessmann et al., MRM 1999).
        """
        return self._sampled(fft2c(self._coil_images(image)))

    def adjoint(self, kspace: Tensor) -> Tensor:
        """`A^H y`: an image `(..., height, width)` of k-space `(..., coils, height, width)`.

        The right side of the normal equations that iterative SENSE solves (Pruessmann et al., MRM 2001).
        """
        self._require("k-space", kspace, ("coils", "height", "width"))
        return combine_coils(ifft2c(self._sampled(kspace)), self.smaps)

    def normal(self, image: Tensor) -> Tensor:
        """`A^H A x`, `(..., height, width)` to the same.

        The left side of the normal equations that iterative SENSE solves (Pruessmann et al., MRM 2001).
        """
        coils = ifft2c(self._sampled(fft2c(self._coil_images(image))))
        return combine_coils(coils, self.smaps)

    def _coil_images(self, image: Tensor) -> Tensor:
        self._require("the image", image, ("height", "width"))
        return expand_coils(image, self.smaps)

    def _require(self, name: str, values: Tensor, axes: tuple[str, ...]) -> None:
        """Before broadcasting makes another image of it without a word."""
        n = len(axes)
        size, given = tuple(self.smaps.shape[-n:]), tuple(values.shape)
        leading = (given[:-n], tuple(self.smaps.shape[:-3]), tuple(self.mask.shape[:-2]))
        fits = given[-n:] == size and all(
            len({*sizes} - {1}) < 2 for sizes in zip_longest(*(reversed(x) for x in leading), fillvalue=1)
        )
        if not (values.is_complex() and fits):
            raise ValueError(
                f"{name} must be complex (..., {', '.join(axes)}) = (..., {', '.join(map(str, size))}), its leading "
                f"dimensions those of smaps {tuple(self.smaps.shape)} and mask {tuple(self.mask.shape)} or none, got "
                f"{values.dtype} {given}"
            )

    def _sampled(self, kspace: Tensor) -> Tensor:
        """With +0 where not sampled, also in place of NaN or infinity."""
        mask = self.mask if self.mask.ndim == 1 else self.mask.unsqueeze(-3)
        return torch.where(mask, kspace, torch.zeros((), dtype=kspace.dtype, device=kspace.device))
