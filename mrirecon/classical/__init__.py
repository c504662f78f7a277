"""Reconstructions without training; called like a trained network."""

from mrirecon.classical.zero_filled import ZeroFilled

METHODS = {ZeroFilled.name: ZeroFilled}
__all__ = ["METHODS", "ZeroFilled"]
