"""Soft data consistency of k-space."""

import torch
from torch import Tensor


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
