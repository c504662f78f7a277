"""Reconstructions without training; called like a trained network.

What a method can be set to are fields of a dataclass, with defaults: its images then say how they were made, and images
made with other options are not taken for the same.
"""

from mrirecon.classical.zero_filled import ZeroFilled

METHODS = {ZeroFilled.name: ZeroFilled}
__all__ = ["METHODS", "ZeroFilled"]
