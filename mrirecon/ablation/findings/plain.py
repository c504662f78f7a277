"""Plain data as JSON takes it. No torch here."""

import math
from collections.abc import Mapping
from typing import Any


def without_nan(value: Any) -> Any:
    """The same data with text keys, lists, and None for every number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
