"""Samples that can be worked with in single precision."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

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


def slice_hash(values: np.ndarray) -> bytes:
    """SHA-256 of the samples of a slice."""
    return sha256(np.ascontiguousarray(values).data).digest()


def samples_sha256(kspace: Mapping[int, bytes], targets: Mapping[int, bytes], n_slices: int) -> tuple[str, str]:
    """Of the hashes of slices, by number: that of the middle slice and that of all; empty where some are missing.

    Args:
        kspace: Of k-space.
        targets: Of the reference; empty: there is none.
        n_slices: Slices of the volume.
    """

    def joined(wanted: Sequence[int]) -> str:
        parts = [of[i] for of in (kspace, targets) if of for i in wanted if i in of]
        return sha256(b"".join(parts)).hexdigest() if len(parts) == len(wanted) * (1 + bool(targets)) else ""

    return joined([n_slices // 2]), joined(range(n_slices))
