"""What networks that see images get to see of a slice, by name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Transform:
    """One such thing."""

    help: str
    needs: tuple[str, ...]  # of a sample; see mrirecon/data/samples.py
    channels: int  # of the network's input and output


TRANSFORMS: dict[str, Transform] = {
    "magnitude": Transform("RSS over coils", ("image",), 1),
    "complex": Transform("coil-combined, as two channels", ("image", "combined"), 2),
}
