"""Name and version the protocols of scores; one stands beside every number."""

from dataclasses import dataclass

from mrirecon.errors import InputError, unknown_name


@dataclass(frozen=True)
class Protocol:
    """Name and definition of a way to score. A change of either gets a new name."""

    name: str
    description: str
    per_slice: bool = False  # means over slices; else over volumes
    clamps_target: bool = False  # to 6 standard deviations of the input around its mean
    range_attribute: str = ""  # the file's attribute that is the data range, where there is one
    mask_rule: str = "fastmri"  # see `mrirecon.data.mask_choice`
    halves_val: bool = False  # val is the first half of val/ by name, test the second


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
ALGOPERF_V1 = Protocol(
    "algoperf-v1",
    "as the fastMRI workload of MLCommons AlgoPerf: mean over slices of the SSIM with a 7 x 7 uniform window and "
    "sample covariance; target clamped to 6 standard deviations of the zero-filled input around its mean; data range = "
    "the file's attribute max; one mask per k-space width (drawn by fastMRI's generator from seed 0, AlgoPerf's own "
    "random numbers are JAX's), centre columns rounded down; val and test are the first and the second half of the "
    "validation files by name; PSNR and NMSE, which AlgoPerf lacks, per volume against the same target",
    per_slice=True,
    clamps_target=True,
    range_attribute="max",
    mask_rule="algoperf",
    halves_val=True,
)
PROTOCOLS = {protocol.name: protocol for protocol in (FASTMRI_V1, ALGOPERF_V1)}  # of data with k-space
CROPS = {"none": FASTMRI_V1, "square": FASTMRI_V1_SQUARE}


def find_protocol(name: str) -> Protocol:
    """A protocol of `PROTOCOLS`: that of fastMRI (Zbontar et al., arXiv:1811.08839) or of AlgoPerf (Dahl et al. 2023).

    Raises:
        InputError: Unknown name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def crop_protocol(crop: str) -> Protocol:
    """The protocol that scores with `crop`: none, or the square of fastMRI's command `python -m fastmri.evaluate`.

    Raises:
        InputError: Unknown name.
    """
    if crop not in CROPS:
        raise unknown_name("crop", crop, CROPS)
    return CROPS[crop]


def scored_grid(protocol: Protocol, shape: tuple[int, int]) -> tuple[int, int]:
    """The central `(height, width)` of a target of `shape` that is scored.

    A square of the target's width is what fastMRI's command (`python -m fastmri.evaluate`) crops to.

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
