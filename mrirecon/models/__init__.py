"""Networks and the choice of their normalization."""

from mrirecon.models.norms import NORMS, make_norm
from mrirecon.models.normunet import NormUNet
from mrirecon.models.precision import auto_precision
from mrirecon.models.unet import UNet, check_image_size

__all__ = ["NORMS", "NormUNet", "UNet", "auto_precision", "check_image_size", "make_norm"]
