"""Soft data consistency of k-space, and which positions of undersampled k-space count as measured."""

import torch
from torch import Tensor

_FULL = 0.95  # of the rows and columns that hold a sample; with fewer, no mask of columns says it all


def soft_consistency(kspace: Tensor, measured: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Move predicted k-space towards what was measured: `k - weight M (k - y)`, `(..., coils, height, width)`.

    A gradient step of the data term, as in variational networks (Hammernik et al., MRM 2018; Sriram et al., MICCAI
    2020); with a weight of 1 the measured samples are put in.

    Args:
        kspace: Predicted, complex.
        measured: Of the same shape; what stands outside the mask does not count.
        mask: bool, broadcasts with both.
        weight: One number.
    """
    return kspace - weight * torch.where(mask, kspace - measured, kspace.new_zeros(()))


def measured_positions(masked_kspace: Tensor, columns: Tensor) -> Tensor:
    """Positions that were measured, bool `(batch, height, width)`, of masked k-space and its mask of columns.

    They are the columns of the mask that hold a sample (a mask goes on in zero padding, which nobody measured; fastMRI
    cuts it there, too). But where less than 95 % of what rows and columns with samples have in common is not 0 in all
    coils, k-space was undersampled along both (see `mrirecon.data.sampling`), and they are what is not 0.

    Args:
        masked_kspace: Complex `(batch, coils, height, width)`, +0 where not sampled.
        columns: bool `(batch, width)`.
    """
    there = (masked_kspace != 0).any(1) & columns.unsqueeze(1)
    rows, columns = there.any(-1), there.any(-2)
    is_2d = there.sum((-2, -1)) < _FULL * rows.sum(-1) * columns.sum(-1)
    return torch.where(is_2d[:, None, None], there, columns.unsqueeze(1))
