"""What a number means: the named, versioned protocol that stands beside every score."""

from dataclasses import dataclass


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
