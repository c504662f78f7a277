"""Matrix products that stay on the calling thread."""

import numpy as np

_ONE_THREAD_WORK = 1 << 18  # multiply-adds up to which OpenBLAS takes one thread


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """`left` (m, k) times `right` (k, n), in blocks of rows.

    Volumes already run side by side. With its own threads on top OpenBLAS takes 50 times longer on a
    busy machine, and its sums would depend on the number of threads.
    """
    m, k = left.shape
    rows = max(1, _ONE_THREAD_WORK // (k * right.shape[1]))
    blocks = -(-m // rows)
    padded = np.zeros((blocks * rows, k), dtype=left.dtype)
    padded[:m] = left
    return (padded.reshape(blocks, rows, k) @ right).reshape(blocks * rows, -1)[:m]
