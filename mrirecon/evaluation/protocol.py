"""What a number means: the named, versioned protocol that stands beside every score."""

from dataclasses import dataclass

from mrirecon.errors import InputError, unknown_name


@dataclass(frozen=True)
class Protocol:
    """Name and definition of a way to score. A change of either gets a new name."""

    name: str
    description: str


FASTMRI_V1 = Protocol(
    "fastmri-v1",
    "per volume on the target's full grid; data range = maximum of the unclamped target over all stored "
    "slices; SSIM with a 7 x 7 uniform window and sample covariance, mean over slices; masks seeded by the "
    "file name (draw 0 is fastMRI's)",
)
FASTMRI_V1_SQUARE = Protocol(
    "fastmri-v1+square",
    "as fastmri-v1, but on the central square of the target's width, to which target and image are cropped "
    "first, as `python -m fastmri.evaluate` does; data range = maximum of the cropped target over all slices",
)
CROPS = {"none": FASTMRI_V1, "square": FASTMRI_V1_SQUARE}


def crop_protocol(crop: str) -> Protocol:
    """The protocol that scores with `crop` (none or square).

    Raises:
        InputError: Unknown name.
    """
    if crop not in CROPS:
        raise unknown_name("crop", crop, CROPS)
    return CROPS[crop]


def scored_grid(protocol: Protocol, shape: tuple[int, int]) -> tuple[int, int]:
    """The central `(height, width)` of a target of `shape` that is scored.

    Raises:
        InputError: A square of the target's width is asked for, and the target is not as high.
    """
    height, width = shape
    if protocol is not FASTMRI_V1_SQUARE:
        return shape
    if height < width:
        raise InputError(
            f"{height} x {width} pixels are less high than wide, so no square of that width fits in them "
            "(fastMRI's command fails there too); leave --crop out"
        )
    return width, width
