"""The zero-filled reconstruction: what was not measured stays zero."""

from torch import Tensor

from mrirecon.data.samples import Sample


class ZeroFilled:
    """Inverse FFT and root sum of squares of the undersampled k-space: the image every method starts from."""

    name = "zero-filled"  # in `METHODS`

    def __call__(self, sample: Sample) -> Tensor:
        """Return the zero-filled images `(batch, height, width)`, in the units of the target."""
        return sample.image
