"""The methods of `mrirecon.reconstruct`, under the name they had."""

from mrirecon.reconstruct.zero_filled import ZeroFilled
from mrirecon.tables.methods import METHODS

__all__ = ["METHODS", "ZeroFilled"]
