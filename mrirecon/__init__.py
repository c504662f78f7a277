"""mrirecon: from undersampled k-space to trained, scored and compared MRI reconstructions."""

__version__ = "0.1.0"
