"""Forward and adjoint MRI operations on native complex tensors."""

from mrirecon.physics.coils import center_crop, center_fit, combine_coils, expand_coils, low_resolution_smaps, rss
from mrirecon.physics.fourier import fft2c, ifft2c
from mrirecon.physics.masks import MASKS, Mask, default_center_fraction, draw_mask, make_mask
from mrirecon.physics.sense import Sense

__all__ = [
    "MASKS",
    "Mask",
    "Sense",
    "center_crop",
    "center_fit",
    "combine_coils",
    "default_center_fraction",
    "draw_mask",
    "expand_coils",
    "fft2c",
    "ifft2c",
    "low_resolution_smaps",
    "make_mask",
    "rss",
]
