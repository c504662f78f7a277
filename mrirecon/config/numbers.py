"""Numbers of a limited range, as types of keys.

The parser takes the types of these names from jsonargparse, which is imported when there is something to parse: it
takes as long to load as a whole help page.
"""

from typing import Annotated

PositiveInt = Annotated[int, "PositiveInt"]
NonNegativeInt = Annotated[int, "NonNegativeInt"]
NonNegativeFloat = Annotated[float, "NonNegativeFloat"]

LOWEST = {"PositiveInt": 1, "NonNegativeInt": 0, "NonNegativeFloat": 0}  # for errors
