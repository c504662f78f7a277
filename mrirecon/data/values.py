"""Samples that can be worked with in single precision."""

import numpy as np

from mrirecon.errors import InputError

LARGEST = 1e30  # the sum of a million such samples still fits into float32


def require_sound(values: np.ndarray, key: str, i: int) -> None:
    """Raise an InputError where slice `i` of data set `key`, real or complex, holds NaN, infinity or huge values."""
    parts = values.view(values.real.dtype) if np.iscomplexobj(values) else values
    largest = max(float(parts.max()), -float(parts.min()))  # NaN, if there is any
    if largest <= LARGEST:
        return
    if np.isfinite(parts).all():
        raise InputError(f"{key} holds {largest:.3g} in slice {i}, at most {LARGEST:g} can be used; scale the file")
    raise InputError(f"{key} holds NaN or infinity in slice {i}; repair, replace or remove the file")
