"""What is made of a slice for networks that see images, by name: the values of `model.input` of U-Net and NormUNet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Transform:
    """One way to show a slice to a network that sees images."""

    help: str
    needs: tuple[str, ...]  # of a sample; see mrirecon/data/samples.py
    channels: int  # of the network's input and output


TRANSFORMS: dict[str, Transform] = {
    "magnitude": Transform("RSS over coils", ("image",), 1),
    "complex": Transform("coil-combined, as two channels", ("image", "combined"), 2),
}
