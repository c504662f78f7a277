"""A U-Net on the coil-combined image with data consistency at its end: the step between U-Net and VarNet."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mrirecon.models.data_consistency import soft_consistency
from mrirecon.models.normunet import NormUNet
from mrirecon.physics import Sense, expand_coils, fft2c, ifft2c, rss


class UNetDC(nn.Module):
    """Refine the coil-combined image, then hold its coils' k-space against what was measured.

        k = F S U(A^H y),  then  k - weight M (k - y)  and the root sum of squares of the coil images

    with `A = M F S` (Pruessmann et al., SENSE, MRM 1999), U a `NormUNet` and a learned weight that begins at 1 (a soft
    data-consistency layer as of Schlemper et al., TMI 2018). With it, a fully sampled image comes back as it is.

    Args:
        channels, pools, options: Of the `NormUNet`.
    """

    def __init__(self, channels: int = 32, pools: int = 4, **options: Any) -> None:
        super().__init__()
        self.model = NormUNet(channels, pools, **options)
        self.dc_weight = nn.Parameter(torch.ones(1))
        self.pools = pools

    def check_image_size(self, shape: Sequence[int]) -> None:
        """Raise InputError for k-space (height, width) that is too small."""
        self.model.check_image_size(shape)

    def forward(self, masked_kspace: Tensor, mask: Tensor, smaps: Tensor) -> Tensor:
        """Map k-space `(batch, coils, height, width)` to magnitude images `(batch, height, width)`.

        Args:
            masked_kspace: Complex, 0 where not sampled.
            mask: What was sampled, bool: columns `(batch, width)` or positions `(batch, height, width)`.
            smaps: Coil sensitivity maps (Pruessmann et al., MRM 1999) of the shape of k-space.
        """
        rows = mask.unsqueeze(1) if mask.ndim == 2 else mask
        image = Sense.of_batch(smaps, rows).adjoint(masked_kspace)
        kspace = fft2c(expand_coils(self.model(image.unsqueeze(1)).squeeze(1), smaps))
        return rss(ifft2c(soft_consistency(kspace, masked_kspace, rows.unsqueeze(1), self.dc_weight)))
