"""The reconstruction that does nothing: what was not measured stays zero."""

from torch import Tensor

from mrirecon.data.transforms import ImageSample


class ZeroFilled:
    """Inverse FFT and root sum of squares of the undersampled k-space: the image every method starts from."""

    name = "zero-filled"

    def __call__(self, sample: ImageSample) -> Tensor:
        """The zero-filled images of a batch, `(batch, height, width)`, in the units of the target."""
        return sample.image
